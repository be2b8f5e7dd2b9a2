"""Downloads of public sources by name, resumed and held against what is published of them."""
