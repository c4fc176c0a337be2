FIRST = ("50% off: a", "b")
