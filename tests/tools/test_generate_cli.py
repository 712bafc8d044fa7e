"""The command line reference: every command with its arguments and options, and nothing that is refused."""

from __future__ import annotations

from generate_cli import generate

PAGE = generate()


def test_commands_within_commands_have_headings_of_their_own() -> None:
    headings = [line.removeprefix("## polyvisor ") for line in PAGE.splitlines() if line.startswith("## polyvisor ")]
    assert {"up", "move", "create clone", "endpoint fence"} <= set(headings)
    assert "endpoint" not in headings


def test_commands_that_are_refused_are_left_out() -> None:
    assert "vmexport" not in PAGE


def test_an_option_shows_its_values() -> None:
    assert "| `--old-claims` `keep\\|delete` |" in PAGE


def test_a_switch_that_is_off_does_not_show_how_to_switch_it_off() -> None:
    assert "`--keep-guests` |" in PAGE
    assert "| `--wait`, `--no-wait` |" in PAGE


def test_arguments_are_in_the_usage() -> None:
    assert "    polyvisor adopt ENDPOINT/DOMAIN... [OPTIONS]\n" in PAGE
    assert "    polyvisor domains [ENDPOINT] [OPTIONS]\n" in PAGE
