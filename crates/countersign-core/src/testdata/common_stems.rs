[
    "password", "passwort", "passwd", "motdepasse", "contrasena", "senha", "qwerty", "qwertz", "azerty", "letmein",
    "welcome", "willkommen", "bienvenue", "admin", "administrator", "administrateur", "root", "login", "master",
    "superuser", "changeme", "default", "secret", "geheim", "iloveyou", "monkey", "dragon", "football", "baseball",
    "soccer", "sunshine", "princess", "shadow", "superman", "batman", "trustno", "hello", "hallo", "bonjour",
    "whatever", "freedom", "starwars", "pokemon", "computer", "internet", "server", "countersign", "access", "test",
    "testing", "tester", "user", "guest", "summer", "winter", "spring", "autumn", "sommer", "january", "february",
    "march", "april", "june", "july", "august", "september", "october", "november", "december", "monday", "friday",
    "company", "office", "manager", "support", "helpdesk", "temporary", "michael", "jennifer", "jordan", "charlie",
]
