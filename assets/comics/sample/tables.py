"""The tables of the invented market: series, famous issues, words of sellers. SYNTHETIC values throughout.

Names of series and issues are real so that titles look as they do; every number beside them is made up.
"""

# series, publisher, first year, last issue of the invented run, value of a common issue in 9.8 (US dollars)
SERIES = (
    ("Amazing Spider-Man", "Marvel", 1963, 441, 260), ("Uncanny X-Men", "Marvel", 1963, 544, 190),
    ("Incredible Hulk", "Marvel", 1968, 474, 150), ("Fantastic Four", "Marvel", 1961, 416, 170),
    ("Avengers", "Marvel", 1963, 402, 160), ("Daredevil", "Marvel", 1964, 380, 120),
    ("Iron Man", "Marvel", 1968, 332, 110), ("Thor", "Marvel", 1966, 502, 100),
    ("Wolverine", "Marvel", 1988, 189, 70), ("New Mutants", "Marvel", 1983, 100, 75),
    ("X-Force", "Marvel", 1991, 129, 35), ("X-Factor", "Marvel", 1986, 149, 40),
    ("Silver Surfer", "Marvel", 1987, 146, 55), ("Spider-Man 2099", "Marvel", 1992, 46, 45),
    ("Marvel Two-In-One", "Marvel", 1974, 100, 50), ("Tomb of Dracula", "Marvel", 1972, 70, 140),
    ("What If?", "Marvel", 1977, 47, 60), ("X-23", "Marvel", 2005, 6, 90), ("Batman", "DC", 1940, 713, 180),
    ("Detective Comics", "DC", 1937, 881, 200), ("Action Comics", "DC", 1938, 904, 170),
    ("Superman", "DC", 1939, 423, 130), ("Wonder Woman", "DC", 1942, 329, 120),
    ("Flash", "DC", 1959, 350, 90), ("Green Lantern", "DC", 1960, 224, 95),
    ("Swamp Thing", "DC", 1982, 171, 60), ("Sandman", "DC", 1989, 75, 65),
    ("Batman & Robin", "DC", 2009, 26, 20), ("100 Bullets", "Vertigo", 1999, 100, 22),
    ("52", "DC", 2006, 52, 12), ("Spawn", "Image", 1992, 350, 40), ("Saga", "Image", 2012, 66, 35),
    ("The Walking Dead", "Image", 2003, 193, 55), ("Invincible", "Image", 2003, 144, 60),
    ("Locke & Key", "IDW", 2008, 6, 30), ("Hellboy", "Dark Horse", 1994, 60, 32),
    ("Teenage Mutant Ninja Turtles", "Mirage", 1984, 62, 130), ("2000 AD", "Rebellion", 1977, 900, 18),
    ("Tales from the Crypt", "EC", 1950, 46, 900), ("House of X", "Marvel", 2019, 6, 25),
)  # fmt: skip
# series, issue, value in 9.8, what sellers shout
FAMOUS = (
    ("Amazing Spider-Man", "300", 3400, "1st app Venom"),
    ("Amazing Spider-Man", "129", 12500, "1st app Punisher"),
    ("Amazing Spider-Man", "361", 520, "1st full Carnage"),
    ("Amazing Spider-Man", "252", 900, "black costume"),
    ("Amazing Spider-Man", "Annual 1", 9800, "1st Sinister Six"),
    ("Incredible Hulk", "181", 42000, "1st app Wolverine"), ("Incredible Hulk", "340", 700, "McFarlane"),
    ("New Mutants", "98", 1250, "1st app Deadpool"), ("New Mutants", "87", 420, "1st Cable"),
    ("Uncanny X-Men", "266", 480, "1st app Gambit"), ("Uncanny X-Men", "141", 650, "Days of Future Past"),
    ("Batman", "423", 300, "McFarlane cover"), ("Batman", "608", 90, "Hush"),
    ("Detective Comics", "880", 380, "Joker cover"), ("Spawn", "1", 110, "1st Spawn"),
    ("Saga", "1", 260, "1st print"), ("The Walking Dead", "1", 2600, "1st Rick Grimes"),
    ("Invincible", "1", 900, "KEY!!"), ("Teenage Mutant Ninja Turtles", "1", 30000, "1st TMNT"),
    ("Tomb of Dracula", "10", 8800, "1st app Blade"), ("Wolverine", "1", 240, "solo title"),
    ("Silver Surfer", "44", 190, "Infinity Gauntlet"), ("2000 AD", "2", 450, "1st Dredd"),
    ("House of X", "1", 45, "Hickman"), ("Amazing Spider-Man", "1.MU", 25, "Monsters Unleashed"),
)  # fmt: skip
# grade: its share of the value in 9.8
SHARE_OF_9_8 = {
    "9.8": 1.0, "9.6": 0.52, "9.4": 0.39, "9.2": 0.33, "9.0": 0.29, "8.5": 0.24, "8.0": 0.2, "7.5": 0.17,
    "7.0": 0.15, "6.5": 0.135, "6.0": 0.12, "5.0": 0.1, "4.0": 0.08, "3.0": 0.06, "2.0": 0.045, "1.0": 0.03,
    "0.5": 0.02,
}  # fmt: skip
# what a seller writes: the grade it stands for
RAW_WORDS = {
    "NM+": "9.6", "NM": "9.4", "NM-": "9.2", "VF/NM": "9.0", "VF+": "8.5", "VF": "8.0", "VF-": "7.5",
    "FN/VF": "7.0", "F/VF": "7.0", "FN+": "6.5", "FN": "6.0", "Fine": "6.0", "VG/FN": "5.0", "VG": "4.0",
    "Very Good": "4.0", "G/VG": "3.0", "GD": "2.0", "G": "2.0", "Fair": "1.0", "Poor": "0.5",
    "Near Mint": "9.4", "very fine": "8.0",
}  # fmt: skip
VAGUE = (
    "see pics", "VG-FN", "NM or better", "6.0-7.0", "good condition for its age", "like new", "", "", "unknown",
)  # fmt: skip
SLABS = (
    "CGC {}",
    "CGC {}",
    "CGC {}",
    "CBCS {}",
    "PGX {}",
    "{} CGC",
    "CGC Universal {} White Pages",
    "CGC {} SS",
)
# how often each grade of SHARE_OF_9_8 is slabbed
SLAB_WEIGHTS = (26, 15, 11, 8, 8, 7, 6, 4, 4, 3, 3, 2, 2, 1, 1, 0.5, 0.5)
NOISE = ("", "", "", "", "", "L@@K ", "🔥 ", "HOT! ", "RARE!! ")
SELLERS = (
    "attic_finds_", "longboxer_", "silver_age_", "panelhound_", "spinner_rack_", "gutters_", "bagboard_", "inkwell_",
)  # fmt: skip
# units for one dollar, fixed: conversion itself is the pipeline's work, with the real rates
UNITS = {
    "USD": 1.0, "EUR": 0.9, "GBP": 0.76, "CAD": 1.39, "AUD": 1.44, "JPY": 155.0, "CHF": 0.82, "SEK": 9.8, "DKK": 6.7,
}  # fmt: skip
