//! Dictionaries.

use super::*;

#[test]
fn a_dict_carries_json_everywhere_and_any_object_between_pythons() {
    let pipeline = "
        shared: {settings: {dict: {level: 3, ratio: 0.1}}}
        stages: {all: {command: python3 dict.py}}";
    let dict = r#"
import subprocess
from mpflow import shared
settings = shared.settings
def command(*arguments):
    return subprocess.run(["mpflow", "shared", *arguments], stdout=subprocess.PIPE, text=True).stdout
assert settings["level"] == 3 and settings["ratio"] == 0.1 and len(settings) == 2
for value in (None, True, -1, 2**64 - 1, 0.1, 1e300, "grün \n\u2028", [1, [2.5]], {"a": {"b": None}},
              (1, 2), {3: 4}, 2**70, b"bytes", {1, 2}, float("inf"), "\udcff", [(1,)]):
    settings["value"] = value
    found = settings["value"]
    assert found == value and type(found) is type(value), (value, found)
command("set", "settings", "level", "-5")
assert settings["level"] == -5
command("set", "settings", "text", "hello")
assert settings.get("text") == "hello" and command("get", "settings", "text") == "hello\n"
assert command("add", "settings", "level", "2") == "-3\n" and settings.add("level", 4) == 1
settings["list"] = [1, 2]
assert command("get", "settings", "list") == "1\n2\n"
assert settings.pop("list") == [1, 2] and settings.pop("list", None) is None
try: settings["list"]
except KeyError: pass
else: raise SystemExit("no KeyError")
assert settings.setdefault("new", []) == [] and "new" in settings and "old" not in settings
settings.update({"a": 1}, b=(2,))
assert settings["b"] == (2,) and sorted(settings) == settings.keys() == [key for key, _ in settings.items()]
assert settings.compare_and_set("a", 1, 2) and not settings.compare_and_set("a", 1, 3)
settings.update({f"k{n}": "x" * 100000 for n in range(8)})
settings.update({f"l{n}": "x" * 100000 for n in range(8)})
assert len(settings.items()) == len(settings) and len(settings["k3"]) == 100000
try: settings["large"] = "x" * (1 << 20)
except ValueError as error: assert "at most" in str(error)
else: raise SystemExit("too large and taken")
for key in settings.keys():
    if key[0] in "kl": del settings[key]
settings["o"] = {"tuple": (1,)}
"#;
    let run = scenario(pipeline).file("dict.py", dict).run().succeeded();
    let entries = object(&run, "settings")["entries"].clone();
    assert!(entries["o"]["pickle_bytes"].is_u64(), "{entries}");
    assert_eq!((&entries["a"], &entries["text"]), (&json!(2), &json!("hello")));
}
