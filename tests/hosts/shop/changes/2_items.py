"""Things on shelves; a neighbour module says which."""

from names import FIRST


def apply(conn, environment):
    conn.sql("CREATE TABLE items (id serial PRIMARY KEY, name text, shelf integer REFERENCES shelves)").execute()
    shelf = conn.table("shelves").insert({"place": environment}).execute().data[0]["id"]
    conn.table("items").insert([{"name": name, "shelf": shelf} for name in FIRST]).execute()


def rollback(conn, environment):
    conn.sql("DROP TABLE items; DELETE FROM shelves").execute()
