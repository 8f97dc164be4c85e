"""Texts written for the tests: every rule of the four filters on both sides of its bound."""

from __future__ import annotations

_PROSE = (
    "The mill stood at the end of the lane, and nobody had worked there for years. My grandmother said that "
    'the wheel would still turn if you asked it nicely. "Don\'t be silly," my brother answered; he was '
    "twelve. "
    "We went down to the water with a lamp, two apples and a map that we couldn't read!\n"
    "It was colder than we'd thought. Mr. Hale, who lives at No. 7, had told us about the owls (he has "
    "counted "
    "nine of them since Oct. 2019). Were they awake? We didn't know... The door wasn't locked.\n"
    "Inside, the air smelled of dust and of old rope. Somebody had left a note: e-mail me at "
    "owl.count@mill.example "
    "or see https://mill.example/owls?id=3. It cost $4.50, or about 3.90€, to print 200 of them at 10km "
    "from here.\n"
)
_MENU = "\n".join(f"- Soup of the day no. {i}" for i in range(40))
_TABLE = "\n".join("1 11 1 1 11 | 0.5kg | 12:30-14:00" for _ in range(30))
_SPAM = "buy cheap tickets online now " * 60
_CITED = "\n".join(
    f"The town grew to {n},000 people by 19{n}.[{n}][citation needed] It has a mill, a school and a pub.[edit]"
    for n in range(10, 22)
)
_EXCLAIMING = "Win now!!! Call us :-) today... #deal #now #win and/or #smile <3 \n" * 20
_SCRIPT = "Please enable JavaScript to see this page.\nOur site uses cookies to be useful to you.\n" + _PROSE
_LOREM = _PROSE + "\nHere is Lorem Ipsum dolor sit amet, as ever.\n"
_CURLY = _PROSE + "\nfunction f() { return 1 } is how it starts.\n"
_SILENT_CURLY = _PROSE + "\nfunction f() { return 1 }\n"
_LONG_WORD = _PROSE + "\n" + "x" * 1001 + " is a very long word.\n"
_BREAKS = (
    "One line.\rTwo lines.\r\nThree lines.\x0bFour of them.\x1cFive of them.\u2028Six of them.\x85Seven of them. " * 4
)
_FOREIGN = (
    "Die Mühle stand am Ende des Weges, und niemand hatte dort seit Jahren gearbeitet. «Était-ce vrai?» "
    "fragte sie…\n"
    "Мельница стояла в конце дороги. 磨坊在小路的尽头。水车还会转吗？ चक्की गाँव के बाहर थी। Ο μύλος ήταν "
    "παλιός.\n"
) * 3

SAMPLES = (
    _PROSE, _PROSE * 2, _PROSE + "\n\n" + _PROSE + "\n\n" + _PROSE, _MENU, _TABLE, _SPAM, _CITED, _EXCLAIMING,
    _SCRIPT, _LOREM, _CURLY, _SILENT_CURLY, _LONG_WORD, _BREAKS, _FOREIGN, _PROSE + _MENU, _PROSE + _TABLE,
    _PROSE.replace(". ", ".\n\n"), _PROSE.replace(".", "…"), _PROSE.replace(" ", "\n"), _PROSE.upper(),
    "\n\n" + _PROSE + "\n\n", _PROSE.replace("'", "’"), "-\n" * 50, "Short.", "a b c d e f g " * 20,
    "# " * 80 + _PROSE,
    _PROSE.replace("e", ""), "wordwithoutanyend" * 90, "It's a test. " * 60,
    "Use cooKies with care, they said at the mill.\n" + _PROSE, "[1] [2] [3]\n[edit] [edit] [4].\n" + _PROSE,
    " \t leading and trailing space.  \n" + _PROSE + "   ", _PROSE.replace("\n", "  \n  "),
    "(8) :) foo:) plan-a. U.S. U.S.A. e.g. 5pm 10km/h 3--4 a--b C$5 5US$ "
    "well...so +1 1+ \"q.\"R 'tis dogs' rock'n'roll " * 9,
)  # fmt: skip

ODD = (
    "", " ", "\n", "\n\n\n", "\x00", "a\x00b", "\x1c", "\ufeff", ".", "...", "…………", "'s", "[", "[]",
    "[1", "[edit",
    "\r", "\r\n", "a\r\nb", "x" * 5000, "(" * 3000, "." * 3000, "@" * 3000, "a@" * 2000, "-" * 3000,
    "\U0001F600" * 500,
    "a.B" * 900, "1+" * 900, "http://" * 400, "\n" * 4000, "a\n" * 3000, " " * 3000, "…" * 1001 + " b c.",
    "\u3000x\u3000", "a\u2028b", "é" * 40, "he's" * 400, ":)" * 400, "İstanbul JAVASCRİPT ﬀ ß",
    "\ud7ff\ue000\U0010FFFF",
)  # fmt: skip
