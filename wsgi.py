"""What servers import: `flask run` and `gunicorn wsgi:app` find it, and `python wsgi.py` serves it too."""

from cryoprotect import create_app

app = create_app()

if __name__ == "__main__":
    app.run()
