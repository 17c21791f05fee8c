"""May the login user run these words as another user without a password? sudo itself is asked; the words are not run.

Rights are best for exact commands, so nothing can be tried out: whoever may run `init.sh stop` may not run `true`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from bbctl.remote.shell import as_user, join, quote

# A wide right is tried out first, with a command that does nothing. `-l` says that the words are there and permitted, but
# not whether a password would be asked for them; where `-v` fails, some rule wants one, and the rules are shown.
_ASK = r"""
LC_ALL=C; export LC_ALL
if {become} test -x {program} 2>/dev/null; then echo yes
elif ! said=$(sudo -n -l -u {user} -- {words} 2>&1); then printf 'no %s\n' "$said"
elif sudo -n -v 2>/dev/null; then echo yes
else echo rules; sudo -n -l -l 2>&1
fi
"""
_RULE = re.compile(r"^Sudoers entry:.*$|^LDAP Role:.*$", re.MULTILINE)


def may(user: str, words: Sequence[str]) -> str:
    """Shell text that asks whether `words` may be run as `user`; for `refusal`."""
    return _ASK.format(
        become=join(as_user(user, ())), user=quote(user), program=quote(words[0]), words=join(words)
    )  # fmt: skip


def refusal(answer: str, user: str, words: Sequence[str]) -> str | None:
    """Why sudo would not run the words at once, in its own words where it has any; None where it would."""
    said = answer.strip()
    if said == "yes":
        return None
    if said.startswith("rules\n"):
        return "a password is required" if _asks(said, user, words) else None
    cause = said.removeprefix("no").strip().rpartition("\n")[2].removeprefix("sudo: ")
    return cause[-160:] or "no rule of sudoers allows it"


def _asks(listing: str, user: str, words: Sequence[str]) -> bool:
    """Whether the last of sudo's rules that fits the words wants a password. False where none is seen to fit."""
    asks = False
    for rule in _RULE.split(listing)[1:]:
        head, _, commands = rule.partition("Commands:")
        users = re.search(r"RunAsUsers: *(.*)", head)
        if not {user, "ALL"} & set(re.split(r"[,\s]+", users[1] if users else "root")):
            continue
        if any(_fits(line.strip(), words) for line in commands.splitlines()):
            asks = "!authenticate" not in head
    return asks


def _fits(rule: str, words: Sequence[str]) -> bool:
    line = " ".join(words)
    return rule in ("ALL", words[0]) or fnmatchcase(line, rule.replace("\\", ""))
