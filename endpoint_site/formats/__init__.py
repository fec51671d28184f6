"""How the admin writes what Django would write as Americans do."""
