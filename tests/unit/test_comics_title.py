"""What a listing's title names, case by case: one comic however it is written, lots apart, and no text raises."""

import random
import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assets.comics.rules.keys import better_name, comic_id, publisher_id, series_id, series_key
from assets.comics.rules.title import comic_key, display_title, parse_title
from assets.comics.sample.market import Market
from assets.comics.sample.tables import SHARE_OF_9_8, SLABS

ONE_COMIC = (
    "Amazing Spider-Man #300 (1988) CGC 9.8",
    "Amazing Spider Man 300",
    "AMAZING SPIDER-MAN Vol. 1 No. 300",
    "The Amazing Spider-Man #300 1988 1st app Venom NM",
    "Amazing Spider-Man, The #300",
    "amazing spiderman #300",
    "L@@K! 🔥 AMAZING SPIDERMAN #300 KEY!! HOT",
    "Ａｍａｚｉｎｇ Ｓｐｉｄｅｒ－Ｍａｎ ＃３００",
    "Amazing Spider‑Man № 300",
    "MARVEL COMICS Amazing Spider-Man #300",
    "Amazing Spider-Man (Marvel, 1963 series) #300",
    "Amazing Spider-Man #0300",
    "CGC 9.8 Amazing Spider-Man #300 MCU",
    "Amazing  Spider–Man — #300",
    "Amazing Spider-Man #300 1st print",
    "Lot #93012: Amazing Spider-Man #300 CGC 9.6",
    "Amazing Spider-Man #300 Direct Edition",
    "Amazing Spider-Man issue 300",
    "Amazing Spider-Man 1st App Venom #300",
    "“Amazing Spider-Man” #300",
    "Amazing Spider-Man #300 Cover A",
)

KEYS = {
    "Wizard #½": "wizard|1/2|",
    "Wizard #1/2": "wizard|1/2|",
    "Wizard ½": "wizard|1/2|",
    "Amazing Spider-Man #1.MU": "amazingspiderman|1.mu|",
    "amazing spider-man 1.mu": "amazingspiderman|1.mu|",
    "Avengers Annual 3": "avengers|annual3|",
    "Avengers Annual #3 1966": "avengers|annual3|",
    "Avengers #3 Annual": "avengers|annual3|",
    "Avengers Annual '97": "avengers|annual1997|",
    "Avengers King-Size Special 1": "avengers|king-sizespecial1|",
    "Giant-Size X-Men #1": "giantsizexmen|1|",
    "X-Men '92 #1": "xmen92|1|",
    "2000 AD Prog 2": "2000ad|2|",
    "Spider-Man 2099 #1": "spiderman2099|1|",
    "Spider-Man 2099 1": "spiderman2099|1|",
    "100 Bullets #1": "100bullets|1|",
    "100 Bullets 1": "100bullets|1|",
    "52 #1": "52|1|",
    "52 1": "52|1|",
    "Batman #-1": "batman|-1|",
    "Batman #0": "batman|0|",
    "Batman #1.5": "batman|1.5|",
    "DC One Million #1,000,000": "dconemillion|1000000|",
    "Action Comics 1,000": "actioncomics|1000|",
    "X-23 #1": "x23|1|",
    "Locke &amp; Key #1": "lockekey|1|",
    "Batman & Robin #3": "batmanrobin|3|",
    "Batman and Robin 3": "batmanrobin|3|",
    "Batman #٣٠٠": "batman|300|",
    "Éclair #5": "eclair|5|",
    "eclair 5": "eclair|5|",
    "Marvel Comics Presents #72": "marvelcomicspresents|72|",
    "DC Comics Presents #26": "dccomicspresents|26|",
    "Marvel Comics #1": "marvelcomics|1|",
    "Amazing Spider-Man (Vol. 3) #1": "amazingspidermanvol3|1|",
    "Amazing Spider-Man v3 #1": "amazingspidermanvol3|1|",
    "What If? #1": "whatif|1|",
    "Weapon X 3": "weaponx|3|",
    "Hulk 181 25 cents 1974": "hulk|181|",
    "Tomb of Dracula 10 1st Blade": "tombofdracula|10|",
    "9-11 #1": "911|1|",
    "Marvel Two-In-One #1": "marveltwoinone|1|",
    "Camelot 3000 #1": "camelot3000|1|",
    "Wonder Woman 1984 #1": "wonderwoman1984|1|",
    "Spawn #1 Variant": "spawn|1|variant",
    "Spawn #1 1:25 Ratio Variant": "spawn|1|1:25",
    "Spawn #1 1 in 25": "spawn|1|1:25",
    "Spawn #1 (Newsstand)": "spawn|1|newsstand",
    "Newsstand Spawn #1": "spawn|1|newsstand",
    "Spawn #1 2nd Print": "spawn|1|2ndprint",
    "Spawn #1 second printing": "spawn|1|2ndprint",
    "Spawn #1 Cover B": "spawn|1|coverb",
    "Spawn #1B": "spawn|1|coverb",
    "Spawn #1 Virgin": "spawn|1|virgin",
    "Spawn #1 Sketch Virgin variant": "spawn|1|sketch+virgin",
    "X 23 1 (2005)": "x23|1|",
    "Batman 66 1": "batman66|1|",
    "Superman 13 CGC 9.8": "superman|13|",
    "Superman 9 CGC 9.8": "superman|9|",
    "Superman 9 CGC": "superman|9|",
    "9.8 CGC Superman 9": "superman|9|",
    "Superman 9 9.8 CGC": "superman|9|",
    "Silver Surfer #4": "silversurfer|4|",
    "Gold Digger #1 Gold": "golddigger|1|gold",
    "Star Wars 1 35 cent price variant": "starwars|1|pricevariant",
    "Batman #1 - 25 cent cover": "batman|1|",
}

LOTS = {
    "Amazing Spider-Man #1-10": 10,
    "Amazing Spider-Man #1 - #10": 10,
    "lot of 5 Batman": 5,
    "Batman lot of five": 5,
    "set of 12": 12,
    "complete set 1-4 Saga": 4,
    "Saga 1 thru 10": 10,
    "Saga #1 to 6": 6,
    "Marvel Bundle": None,
    "Batman comic lot": None,
    "Hulk #181 x3": 3,
    "3 copies Hulk #181": 3,
    "Hulk #1,2,3": 3,
    "Hulk #300 & #301": 2,
    "#1 #2 #3 Hulk": 3,
    "10 comic book lot": 10,
    "Batman 404-407": 4,
    "X-Men (lot of 7)": 7,
    "Secret Wars 12 issue set": 12,
    "Sandman complete series": None,
    "Wolverine #1 - 4 full run": 4,
    "job lot comics": None,
}

NO_LOTS = (
    "X-23 #1",
    "Spider-Man #1",
    "Batman (1963-1998) #3",
    "Batman #300 - 1988",
    "Spawn #1 - 1st app",
    "has a lot of wear #1",
    "Action Comics #1,000",
    "Wizard #1/2",
    "Amazing Spider-Man 300 Marvel Comics 1988",
    "Camelot 3000 #1",
    "9-11 #1",
    "X-Men #94 CGC 9.4-9.6",
    "Suicide Squad #1",
    "Batman #1 - 25 cent cover",
    "1988-89 Batman #3",
    "Spawn #1 1:25",
)


@pytest.mark.parametrize("title", ONE_COMIC)
def test_one_comic_has_one_key_however_it_is_written(title: str) -> None:
    found = parse_title(title)
    assert comic_key(found) == "amazingspiderman|300|"
    assert (found.issue_number, found.issue_sort, found.is_lot) == ("300", Decimal(300), False)


@pytest.mark.parametrize(("title", "key"), KEYS.items())
def test_a_title_gives_its_series_issue_and_variant(title: str, key: str) -> None:
    assert comic_key(parse_title(title)) == key


@pytest.mark.parametrize("title", [*ONE_COMIC, *KEYS])
def test_the_shown_title_names_the_same_comic_again(title: str) -> None:
    found = parse_title(title)
    assert comic_key(parse_title(display_title(found))) == comic_key(found)


@pytest.mark.parametrize(("title", "size"), LOTS.items())
def test_a_lot_is_told_apart_with_its_size_if_stated(title: str, size: int | None) -> None:
    found = parse_title(title)
    assert (found.is_lot, found.lot_size, comic_key(found), found.issue_number) == (True, size, None, None)


@pytest.mark.parametrize("title", NO_LOTS)
def test_a_hyphen_a_number_or_the_word_alone_makes_no_lot(title: str) -> None:
    assert not parse_title(title).is_lot


def test_a_lot_keeps_the_name_of_its_series() -> None:
    assert parse_title("Amazing Spider-Man #1-10").series_key == "amazingspiderman"
    assert parse_title("Lot of 12 Batman (DC)").series_key == "batman"


@pytest.mark.parametrize(
    ("title", "year", "publisher"),
    [
        ("Amazing Spider-Man #300 (1988)", 1988, None),
        ("Uncanny X-Men 266 Marvel 1990 NM+", 1990, "Marvel"),
        ("Batman #1 (DC Comics, Mar 1940)", 1940, "DC"),
        ("X-Men #101 (Oct 1976, Marvel)", 1976, "Marvel"),
        ("Dark Horse: Hellboy #1", None, None),
        ("Spider-Man 2099 #1", None, None),
        ("Tales from the Crypt #20 (EC, 1950)", 1950, "EC"),
    ],
)
def test_year_and_publisher_come_from_behind_the_issue_or_from_brackets(
    title: str, year: int | None, publisher: str | None
) -> None:
    found = parse_title(title)
    assert (found.year, found.publisher) == (year, publisher)


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("", "empty"),
        (None, "empty"),
        ("\x00\ud800", "empty"),
        ("!!!", "no_series"),
        ("#300 CGC 9.8", "no_series"),
        ("Batman: The Killing Joke", "no_issue"),
        ("Saga Vol. 1 TPB", "no_issue"),
        ("Vintage comic book, see photos", "no_issue"),
    ],
)
def test_a_title_that_names_no_comic_says_why(title: str | None, reason: str) -> None:
    found = parse_title(title)
    assert (found.reason, comic_key(found)) == (reason, None)


def test_issues_sort_by_their_number() -> None:
    numbers = ["-1", "0", "½", "1", "1.5", "2", "10", "1,000,000"]
    sorts = [parse_title(f"Batman #{number}").issue_sort for number in numbers]
    assert sorts == sorted(sorts)


def test_ids_are_the_first_half_of_a_hash_over_kind_and_key() -> None:
    # Pinned: a changed id is another comic to every stored row.
    assert str(comic_id("amazingspiderman|300|")) == "9f88da1a-f155-7449-dea4-68a35a1267d1"
    assert str(series_id("amazingspiderman")) == "b1373aba-a88e-7514-e31c-5f3012473722"
    assert str(publisher_id("marvel")) == "0084f19a-dcd7-40ee-26db-69fa9a3c318d"


def test_the_name_to_show_does_not_depend_on_which_came_first() -> None:
    names = ["AMAZING SPIDER-MAN", "Amazing Spider Man", "Amazing Spider-Man", "amazing spiderman"]
    for _ in range(20):
        random.shuffle(names)
        best = names[0]
        for name in names[1:]:
            best = better_name(best, name)
        assert best == "Amazing Spider-Man"


def test_titles_as_a_market_writes_them_are_read_as_what_was_sold() -> None:
    dice = random.Random(11)
    market = Market(dice)
    for comic in market._comics:
        for ending in ("", "", *SLABS):
            title = f"{market._title(comic)} {ending.format(dice.choice(list(SHARE_OF_9_8)))}"
            found = parse_title(title)
            expected = (series_key(comic.series), comic.issue.upper(), False)
            assert (found.series_key, (found.issue_number or "").upper(), found.is_lot) == expected, title


CHARACTERS = st.one_of(
    st.characters(),
    st.sampled_from([*"#-–½.,&()[]/'\" 0123456789", "&amp;", "🔥", "lot ", "x3", "Annual ", "Vol. "]),
)
TITLES = st.one_of(
    st.lists(CHARACTERS, max_size=40).map("".join),
    st.lists(st.sampled_from([*KEYS, *LOTS]), max_size=3).map(" ".join),
)


@given(title=TITLES)
@example("#" * 2000)
@example("1-" * 2000)
@example("lot of " * 300)
@example("Annual " * 300)
def test_any_text_gives_a_title_that_says_what_is_missing(title: str) -> None:
    found = parse_title(title)
    has_comic = comic_key(found) is not None
    assert has_comic is (not found.is_lot and found.reason is None)
    assert not has_comic or (found.series_key != "" and found.issue_number is not None)
    assert found.lot_size is None or found.lot_size > 0


@given(name=st.text(max_size=60))
def test_a_series_key_is_its_own_key(name: str) -> None:
    key = series_key(name)
    assert series_key(key) == key
    assert all(character.isalnum() for character in key)


@given(data=st.data(), title=st.sampled_from([title for title in KEYS if re.search(r"#[\d½]", title)]))
def test_case_spaces_and_punctuation_do_not_change_the_key(data: st.DataObject, title: str) -> None:
    name, _, rest = title.partition("#")
    if not name.strip() or re.search(r"vol|v\d|'|\d$", name.strip(), re.IGNORECASE):
        name = "Giant-Size X-Men "
    gaps = [data.draw(st.sampled_from([" ", "  ", " - ", "-", " – ", "\u00a0", ": "])) for _ in name.split()]
    words = [
        data.draw(st.sampled_from([str.upper, str.lower, str.title, str]))(word)
        for word in name.replace("&amp;", "&").split()
    ]
    changed = "".join(word + gap for word, gap in zip(words, gaps, strict=True))
    assert comic_key(parse_title(f"{changed}#{rest}")) == comic_key(parse_title(f"{name}#{rest}"))
