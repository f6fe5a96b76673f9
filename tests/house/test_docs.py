"""The documentation cannot drift: what a page tells people to type is typed here, in an empty folder.

How a page says what to run:

    ```yaml title="tunesmith.yaml"      a block with a title is written to that file
    ```console                          lines that start with "$ " are run in order; lines below one must appear in its
    $ tunesmith check                   output, in that order, "..." stands for anything; "# exit 2" at the end of a command
                                        says what it ends with (0 otherwise)
    ```python                           is run as a script

Everything else (bash, text, json ...) is only shown. A page of examples/ starts with the files beside it; any other finds the
folder examples/ as in a checkout.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.cli.command import verbs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
BLOCK = re.compile(
    r"^```(?P<lang>\w+)(?: +title=\"(?P<title>[^\"]+)\")? *\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
COMMAND = re.compile(r"^(?P<line>.*?)(?: +# exit (?P<exit>\d+))?$", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a console block: what to type, the exit code and the lines it must print."""

    line: str
    exit: int
    output: tuple[str, ...]


def commands(console: str) -> list[Command]:
    """'$ echo a\\na\\n' -> [Command('echo a', 0, ('a',))]; a backslash at the end of a line continues it."""
    found: list[Command] = []
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        line, _, rest = part.replace("\\\n", " ").partition("\n")
        match = COMMAND.match(line)
        assert match is not None
        wanted = tuple(text.strip() for text in rest.splitlines() if text.strip())
        found.append(Command(match["line"], int(match["exit"] or 0), wanted))
    return found


def shows(wanted: tuple[str, ...], output: str) -> str | None:
    """The first wanted line that the output lacks, None when all are there in order. Runs of spaces count as one."""
    lines = "\n".join(" ".join(line.split()) for line in output.splitlines())
    place = 0
    for text in wanted:
        if text == "...":
            continue
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in text.split("..."))
        match = re.compile(pattern).search(lines, place)
        if match is None:
            return text
        place = match.end()
    return None


def runs(page: Path) -> bool:
    if page.name == "README.ko.md":  # its commands are those of README.md: a test below holds that
        return False
    return any(
        block["lang"] == "console" or (block["lang"] == "python" and not block["title"])
        for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_page_tells_people_to_type_works(page: Path, tmp_path: Path):
    if page.is_relative_to(ROOT / "examples"):
        shutil.copytree(page.parent, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    else:
        shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("runs", "__pycache__"))
    here = Path(sys.executable).parent
    env = os.environ | {
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        where = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"
        if block["title"]:
            (tmp_path / block["title"]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block["title"]).write_text(block["body"], encoding="utf-8")
        elif block["lang"] == "python":
            done = subprocess.run(
                [sys.executable, "-c", block["body"]],
                cwd=tmp_path,
                env=env,
                check=False,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
        elif block["lang"] == "console":
            for command in commands(block["body"]):
                done = subprocess.run(
                    ["bash", "-c", command.line], cwd=tmp_path, env=env, check=False, capture_output=True, text=True
                )
                said = f"{where}: $ {command.line}\n{done.stdout}{done.stderr}"
                assert done.returncode == command.exit, f"exit {done.returncode}, wanted {command.exit}: {said}"
                lacking = shows(command.output, done.stdout + done.stderr)
                assert lacking is None, f"the output lacks {lacking!r}: {said}"


def test_a_console_block_is_read_as_a_person_would():
    assert commands("$ a --b \\\n  c  # exit 2\nfound: x\n\n$ d\n") == [
        Command("a --b    c", 2, ("found: x",)),
        Command("d", 0, ()),
    ]
    assert shows(("rows: 7 ... 30", "...", "done"), "rows:   7 of 30\nall done\n") is None
    assert shows(("done", "rows"), "rows: 7\ndone\n") == "rows"


def test_every_page_of_the_site_is_in_its_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if page not in menu and not page.startswith("decisions/0")} == set()


def test_the_reference_pages_are_made_from_the_code():
    spec = importlib.util.spec_from_file_location("from_the_code", ROOT / "docs" / "_hooks" / "from_the_code.py")
    assert spec is not None and spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    places = {name: hook.fill_in(f"<!-- {name} -->") for name in hook.PLACES}
    assert "`batch_size`" in places["settings"] and "## generate" in places["settings"]
    assert "tunesmith.train(" in places["verbs"]
    assert "### exact_match" in places["shelves"] and "### lora" in places["shelves"]
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert all(f"<!-- {name} -->" in pages for name in hook.PLACES)


def test_links_between_pages_of_the_repository_lead_somewhere():
    lost = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                lost.append(f"{page.relative_to(ROOT)}: {target}")
    assert lost == []


def outline(page: Path) -> list[str]:
    """What two language versions of a page share: the levels of headings, commands, code, and where links lead."""
    text = page.read_text(encoding="utf-8")
    found = [f"heading {len(level)}" for level in re.findall(r"^(#+) ", BLOCK.sub("", text), flags=re.MULTILINE)]
    for block in BLOCK.finditer(text):
        code = [re.split(r" +#", line)[0].rstrip() for line in block["body"].splitlines()]
        said_once = block["lang"] == "python"  # its words for people differ between the languages
        found += [f"{block['lang']} {block['title'] or ''}", *([] if said_once else code)]
    rows = re.findall(r"^\| (`[^|]*`) \|", text, flags=re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text))
    return [
        *found,
        *rows,
        *sorted({link for link in links if not link.endswith(("README.md", "README.ko.md", "ko.md"))}),
    ]


def test_the_korean_readme_says_what_the_english_one_says():
    assert outline(ROOT / "README.ko.md") == outline(ROOT / "README.md")


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_readme_lists_the_verbs_that_there_are(page):
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(verbs())
