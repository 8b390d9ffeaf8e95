//! The conformance suite finds what it is for: the good examples with one thing broken fail just where it is broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_plugin::conformance::{Fixtures, Verdict, over_stdio};
use fettle_plugin::host::Launch;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins")
}

/// The checks that fail when this text of the example is replaced by another.
fn failing(example: &str, text: &str, by: &str) -> Vec<String> {
    let source = std::fs::read_to_string(examples().join(example)).unwrap();
    assert!(source.contains(text), "{example} has no `{text}` any more");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(example);
    std::fs::write(&program, source.replacen(text, by, 1)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fixtures = Fixtures::load(&examples().join(format!("{example}-fixtures"))).unwrap();
    let mut launch = Launch::trial(&program, &[], &folder.path().join("scratch"));
    launch.limits.grace = Duration::from_secs(2);
    launch.limits.farewell = Duration::from_secs(1);
    let report = over_stdio(&launch, &fixtures);
    let failed = report.outcomes.into_iter().filter(|it| matches!(it.verdict, Verdict::Failed(_)));
    failed.map(|it| it.check).collect()
}

#[test]
fn what_a_feed_does_wrong_with_lines() {
    assert_eq!(
        failing("usn", "\"title\": \"Ubuntu security notices\"", "\"title\": f\"Ubuntu {os.getpid()}\""),
        [
            "hello: the same at every start, and nothing unasked after it",
            "feed: database-all.json is recognised",
            "feed: database-all.json is read as its golden file says",
        ],
        "it says another thing at each start than when it was taken in",
    );
    assert_eq!(failing("usn", "\"versions\": [1]", "\"versions\": [2]"), ["hello: versions, name and what it is"]);
    assert_eq!(
        failing("usn", "request[\"method\"] not in METHODS", "False"),
        ["lines: an unknown method is unsupported"]
    );
    assert_eq!(failing("usn", "request[\"v\"] != 1 or ", ""), ["lines: a version it does not speak is unsupported"]);
    assert_eq!(
        failing(
            "usn",
            "                continue\n",
            "                say({\"id\": request[\"cancel\"], \"ok\": {}})\n                continue\n"
        ),
        [
            "cancel: of a request that is not there is left out",
            "cancel: of a request under way leaves exactly one answer",
        ]
    );
    assert_eq!(
        failing(
            "usn",
            "        except (ValueError, KeyError, TypeError, AttributeError) as error:\n            say",
            "        except ZeroDivisionError as error:\n            say"
        ),
        ["lines: params of another form are invalid_input"],
        "it may end at what is no JSON, but not at a request",
    );
    assert_eq!(
        failing(
            "usn",
            "            if not line:\n                return\n",
            "            if not line:\n                import time; time.sleep(60)\n"
        ),
        ["lines: one answer, then it ends with its input"]
    );
}

#[test]
fn what_a_feed_does_wrong_with_documents() {
    assert_eq!(
        failing("usn", "hashlib.sha256(data).hexdigest() != file[\"sha256\"]", "False"),
        ["files: a document of another digest is invalid_input"]
    );
    assert_eq!(
        failing("usn", "bool(HEAD.match(data)) and b'\"releases\"' in data", "True"),
        [
            "feed: no document of its own: empty",
            "feed: no document of its own: an empty object",
            "feed: no document of its own: text",
            "feed: no document of its own: bytes",
        ]
    );
    let golden = "feed: database-all.json is read as its golden file says";
    assert_eq!(failing("usn", "\"fixed\": fix[\"version\"]", "\"fixed\": \"0\""), [golden]);
    assert_eq!(
        failing("usn", "\"feed\": \"ubuntu-usn\", \"record\"", "\"feed\": \"debian-tracker\", \"record\""),
        [golden]
    );
    assert_eq!(
        failing(
            "usn",
            "raise Refused(\"invalid_input\", f\"{name} is cut or no JSON: {error}\") from error",
            "return {\"problems\": []}"
        ),
        ["feed: an empty document is an error", "feed: half of database-all.json is an error"]
    );
}

#[test]
fn what_a_provider_does_wrong() {
    let undone = [
        "provider: apply, undo: the inventory is as before",
        "provider: the same undo again changes nothing",
        "provider: undo from the files of `old` alone, without what the act left",
        "provider: to recover a whole host harms nothing",
        "provider: the undo of keep-old and fetch leaves no files",
    ];
    let failed = failing("ports", "        return self.apply(p, undo=True)\n", "        return DONE\n");
    assert_eq!(failed[..5], undone, "{failed:#?}");
    let foreign = "provider: a manifest of another ecosystem or with a path as a name is refused";
    assert_eq!(failing("ports", "manifest[\"ecosystem\"] != \"generic\" or ", ""), [foreign]);
    assert_eq!(
        failing("ports", "not good or s[\"file\"][\"name\"] != f\"{s['name']}_{s['to']}.tar.gz\"", "not good"),
        [foreign]
    );
    assert_eq!(
        failing("ports", "and order(v) > order(self.have[n][\"version\"])", ""),
        ["provider: newer versions are newer than what is there"]
    );
    let failed = failing("ports", "if found.get(s[\"name\"]) != s[\"from\" if p[\"reverted\"] else \"to\"]", "");
    assert_eq!(failed[0], "provider: what was installed is proved", "{failed:#?}");
}
