#!/usr/bin/env python3
"""Shows that the lints find what they are for, and let pass what is right."""

import tempfile
import unittest
from pathlib import Path

import broken_engines
import conformance
import file_cycles
import log_lines
import words


class Workspace(unittest.TestCase):
    """A crate in a temporary folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def write(self, **files):
        for name, text in files.items():
            path = self.root / (name.replace("__", "/") + ".rs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def circles(self):
        return [
            [step.split()[-1] for step in text.strip().splitlines()]
            for text in file_cycles.circles(self.root / "lib.rs")
        ]


class FileCycles(Workspace):
    def test_two_files_that_use_each_other(self):
        self.write(
            lib="mod a;\nmod b;\n",
            a="use crate::b::{self, B};\npub struct A;\n",
            b="pub struct B;\nfn f() { crate::a::A; }\n",
        )
        self.assertEqual(len(self.circles()), 1)

    def test_a_circle_behind_a_re_export(self):
        self.write(
            lib="mod a;\nmod b;\npub use a::A;\n",
            a="use crate::b::B;\npub struct A;\n",
            b="use crate::A;\npub struct B;\n",
        )
        self.assertEqual(self.circles(), [["crate::b::B", "crate::A"]])

    def test_a_child_that_uses_its_parent_which_uses_it(self):
        self.write(
            lib="mod a;\n",
            a="mod b;\nuse b::B;\npub struct A;\n",
            a__b="use super::A;\npub struct B;\n",
        )
        self.assertEqual(len(self.circles()), 1)

    def test_a_circle_of_three(self):
        self.write(
            lib="mod a;\nmod b;\nmod c;\n",
            a="use crate::b::f;\npub fn g() {}\n",
            b="pub fn f() { crate::c::h() }\n",
            c="use super::a::*;\npub fn h() {}\n",
        )
        self.assertEqual([len(circle) for circle in self.circles()], [3])

    def test_a_circle_in_any_program_of_a_crate(self):
        for folder in ("src/bin/tool", "examples/example", "tests/parts", "benches/bench"):
            self.write(**{
                f"{folder}/main": "mod a;\nmod b;\n",
                f"{folder}/a": "use crate::b::B;\npub struct A;\n",
                f"{folder}/b": "use crate::a::A;\npub struct B;\n",
            })
        self.write(
            src__main="mod c;\npub fn f() {}\n",
            src__c="fn g() { crate::f() }\n",
            tests__one="mod d;\npub fn f() {}\nfn g() { d::g() }\n",
            tests__d="pub fn g() { crate::f() }\n",
        )
        found = [circle for root in file_cycles.roots(self.root) for circle in file_cycles.circles(root)]
        self.assertEqual(len(found), 5)

    def test_a_file_that_lies_elsewhere(self):
        self.write(
            lib='#[allow(dead_code)]\n#[path = "shared/b.rs"]\nmod b;\npub fn f() {}\nfn g() { b::g() }\n',
            shared__b="pub fn g() { crate::f() }\n",
        )
        self.assertEqual(len(self.circles()), 1)

    def test_a_parent_that_re_exports_its_children_and_tests_do_not_count(self):
        self.write(
            lib="mod a;\n",
            a="mod b;\nmod c;\npub use b::B;\npub use c::C;\n#[cfg(test)]\nmod tests { use super::b::B; }\n",
            a__b="use super::C;\npub struct B;\n",
            a__c="// crate::a::b::B\npub struct C;\n#[cfg(test)]\nmod tests;\n",
            a__c__tests="use crate::a::B;\n",
        )
        self.assertEqual(self.circles(), [])


class Conformance(Workspace):
    def problems(self, row, code="#[test]\nfn a_test() {}\n"):
        """Problems of a workspace whose table has one row, for NET-RX-01."""
        self.write(lib=code)
        features = self.root / "net-device/src/features.rs"
        features.parent.mkdir(parents=True)
        features.write_text("VIRTIO_NET_F_MQ VIRTIO_F_IN_ORDER\n")
        (self.root / "docs").mkdir()
        (self.root / "docs/conformance.md").write_text(row + "\n")
        return list(conformance.problems(self.root))

    def test_a_row_with_its_test_and_place_is_right(self):
        row = "| NET-RX-01 | 5.1 | MUST | words | `lib.rs` | `a_test` |"
        self.assertEqual(self.problems(row), [])

    def test_a_test_or_a_place_that_is_not_there(self):
        row = "| NET-RX-01 | 5.1 | MUST | words | `gone.rs` | `gone` |"
        self.assertEqual(len(self.problems(row)), 2)

    def test_a_function_that_is_no_test(self):
        row = "| NET-RX-01 | 5.1 | MUST | words | | `helper` |"
        self.assertEqual(len(self.problems(row, "fn helper() {}\n")), 1)

    def test_a_test_that_has_a_namesake(self):
        row = "| NET-RX-01 | 5.1 | MUST | words | | `a_test` |"
        twice = "#[test]\nfn a_test() {}\nmod b { #[test]\nfn a_test() {} }\n"
        self.assertEqual(len(self.problems(row, twice)), 1)

    def test_an_id_without_a_row(self):
        row = "| NET-RX-01 | 5.1 | MAY | words | | |"
        self.assertEqual(len(self.problems(row, "// NET-RX-02\nfn f_net_rx_01_03() {}\n")), 2)

    def test_a_must_without_a_test(self):
        row = "| NET-RX-01 | 5.1 | MUST | words | | |"
        self.assertEqual(len(self.problems(row)), 1)

    def test_a_feature_that_is_offered_after_all(self):
        row = "| NET-RX-01 | 5.1 | DESC | words | | MQ is not offered |"
        self.assertEqual(len(self.problems(row)), 1)

    def test_a_feature_that_is_not_offered(self):
        row = "| NET-RX-01 | 5.1 | MUST | words | | RSS is not offered |"
        self.assertEqual(self.problems(row), [])


class Words(Workspace):
    def problems(self, **files):
        self.write(**files)
        return len(list(words.problems(self.root)))

    def test_openers_without_a_noun(self):
        text = "//! What is here.\n/// Whose it is.\n/// See the module's text.\nstruct A;\n"
        self.assertEqual(self.problems(lib=text), 3)
        text = "//! How it works.\n\n/// Whether it is.\n/// Where it lies, or\n/// How.\nstruct A;\n"
        self.assertEqual(self.problems(lib=text), 2)

    def test_names_that_have_a_standard_term(self):
        text = "struct Live;\nconst PLACE: u8 = 0;\nfn rouse() {}\nfn wake(&mut self) {}\nstruct Budget;\n"
        self.assertEqual(self.problems(lib=text, bell=""), 6)
        self.assertEqual(self.problems(lib="fn wake(&self) {}\n", bell="", engine__mod="struct Budget;"), 1)

    def test_what_is_not_said_with_not(self):
        text = "// A tag is no id.\nlet said = \"that is no event\";\n"
        self.assertEqual(self.problems(lib=text), 2)
        text = "// There is no id, nor would there be no id, and it is no longer one.\n"
        self.assertEqual(self.problems(lib=text), 0)

    def test_comments_that_are_too_wide(self):
        wide = " ".join(["word"] * 20)
        self.assertEqual(self.problems(lib=f"    // {wide}\n//! {wide} {wide}\n"), 2)
        self.assertEqual(self.problems(lib=f"// {wide[:90]}\n//! | {wide} {wide} |\n/// {'w' * 200}\n"), 0)

    def test_what_is_right(self):
        text = "//! Rings.\n/// Role of a queue. What waits, waits.\nstruct Alive; // What else\n"
        self.assertEqual(self.problems(lib=text), 0)


class LogLines(unittest.TestCase):
    def test_warnings_and_errors_are_found_and_nothing_else(self):
        text = """
            // warn!("a comment");
            log_limited!(self.log(), Warn, "{name}: ring {index} is {a}{b}");
            log_limited!(log, Info, "{name}: all is well");
            log_limited!(
                log,
                Error,
                "{id}: one line \\
                 in two"
            );
            log::warn!("no name: {error}");
            debug!("no");
        """
        found = ["ring … is …", "one line in two", "no name: …"]
        self.assertEqual(list(log_lines.lines_of(text)), found)

    def test_rows_are_those_of_the_runbook(self):
        section = "| line | meaning |\n|---|---|\n| `two …` | x |\n"
        text = f"| `one` | elsewhere |\n## Runbook\n{section}## Next\n| `three` | x |\n"
        self.assertEqual(log_lines.documented(text), {"two …"})


class BrokenEngines(unittest.TestCase):
    def test_each_breaks_a_line_that_is_there_once(self):
        root = Path(__file__).parent.parent
        for description, path, before, after in broken_engines.ENGINES:
            with self.subTest(description):
                self.assertEqual((root / path).read_text().count(before), 1)
                self.assertNotEqual(before, after)


if __name__ == "__main__":
    unittest.main()
