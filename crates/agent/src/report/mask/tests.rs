use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn masked(line: &str) -> String {
    Masker::default().mask(line)
}

#[test]
fn secrets_are_masked_and_the_rest_is_not() {
    for (line, wanted) in [
        ("Unpacking libssl3 (3.0.11-1) ...", "Unpacking libssl3 (3.0.11-1) ..."),
        ("password=hunter2 user=joe", "password=*** user=joe"),
        ("DB_PASSWORD = 'a b c' done", "DB_PASSWORD = '***' done"),
        (r#"{"token": "abc.def", "n": 1}"#, r#"{"token": "***", "n": 1}"#),
        (r#"{\"secret\":\"a\\\"b\",\"n\":1}"#, r#"{\"secret\":\"***\",\"n\":1}"#),
        ("curl --token s3cret https://x", "curl --token *** https://x"),
        ("tool --password --user joe", "tool --password --user joe"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("curl -H 'X-Api-Key: abc' https://x", "curl -H 'X-Api-Key: ***"),
        ("GET https://joe:pw@repo.example/x y", "GET https://joe:***@repo.example/x y"),
        ("http://deb.example:8080/debian@1 ok", "http://deb.example:8080/debian@1 ok"),
        ("https://joe:0/A*a@repo.example/x", "https://joe:***@repo.example/x"),
        ("https://joe:p/w#?@repo.example/x", "https://joe:***@repo.example/x"),
        ("Setting up passwd (1:4.13+dfsg1-1) ...", "Setting up passwd (1:4.13+dfsg1-1) ..."),
        ("Get:1 http://deb.debian.org/debian bookworm/main amd64 passwd amd64 1:4.13 [972 kB]", "same"),
        ("Setting up libpam-runtime (1.5.2-6+deb12u1) ...", "same"),
        ("Processing triggers for man-db (2.11.2-2) ...", "same"),
        ("PWD=/root OLDPWD=/tmp", "same"),
        ("update-passwd: nothing to do", "update-passwd: *** to do"),
        ("a=1&password=x&next=2", "a=1&password=***&next=2"),
        ("password=a,b;c&d rest", "password=*** rest"),
        ("PGPASSWORD=x psql", "PGPASSWORD=*** psql"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_SECRET_ACCESS_KEY=***"),
        ("key AKIAIOSFODNN7EXAMPLE is used", "key *** is used"),
        ("mysql -u root -phunter2 -e 'select 1'", "mysql -u root -p*** -e 'select 1'"),
        ("sshpass -p hunter2 ssh host", "sshpass -p *** ssh host"),
        ("curl -u joe:hunter2 https://x", "curl -u joe:*** https://x"),
        ("openssl -passin pass:hunter2 -in x", "openssl -passin pass:*** -in x"),
        (
            "mysql-server mysql-server/root_password password a b",
            "mysql-server mysql-server/root_password password ***",
        ),
        ("SET mysql-server/root_password hunter2", "SET mysql-server/root_password ***"),
        ("root:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G3:19000:0:99999:7:::", "root:***:19000:0:99999:7:::"),
        ("joe:ab01FAJy.x9zk:19000:0:99999:7:::", "joe:***:19000:0:99999:7:::"),
        ("daemon:*:19000:0:99999:7:::", "same"),
        ("ALTER USER joe IDENTIFIED BY 'x y'", "ALTER USER joe IDENTIFIED BY '***'"),
        (
            "A temporary password is generated for root@localhost: dj#8;q",
            "A temporary password is generated for root@localhost: ***",
        ),
        ("The password is hunter2", "The password is ***"),
        ("token ghp_16C7e42F292c6912E7710c838347Ae178B4a.", "token ***"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmN", "jwt ***"),
        ("fettle1.AAAAAAAAAAAAAAAA.BBBBBBBBBBB", "***"),
        ("-----BEGIN PRIVATE KEY----- x -----END PRIVATE KEY-----", "*** (private key)"),
        ("ä=ö pässword=ü token=ü ü", "ä=ö pässword=ü token=*** ü"),
    ] {
        let wanted = if wanted == "same" { line } else { wanted };
        assert_eq!(masked(line), wanted, "{line}");
    }
}

#[test]
fn a_private_key_is_masked_to_its_end_and_no_further() {
    for kind in ["EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
        let mut masker = Masker::default();
        let begin = format!("-----BEGIN {kind}-----");
        let end = format!("-----END {kind}-----");
        let lines = [begin.as_str(), "Version: 1", "", "MHcCAQEE", "=abcd", end.as_str(), "after"];
        let shown: Vec<String> = lines.iter().map(|line| masker.mask(line)).collect();
        assert_eq!(shown[6], "after");
        assert!(!shown.concat().contains("MHcC") && !shown.concat().contains("abcd"));
    }
    let mut masker = Masker::default();
    masker.mask("-----BEGIN PRIVATE KEY-----");
    let shown = (0..KEY_LINES + 1).map(|_| masker.mask("ordinary output")).last();
    assert_eq!(shown.as_deref(), Some("ordinary output"), "a beginning without an end does not hide all that follows");
}

#[test]
fn the_administrators_patterns_cover_what_they_name() {
    let patterns = |texts: &[&str]| Patterns::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let mut masker = Masker::new(Arc::new(patterns(&["CORP-????-*-END", "inner name", "lic:*", "*@vault"]).unwrap()));
    for (line, wanted) in [
        ("x CORP-1234-abc-END y", "x *** y"),
        ("x CORP-1234-abc END y", "x CORP-1234-abc END y"),
        ("corp-1234--end", "***"),
        ("the Inner Name here", "the *** here"),
        ("a lic:1/2/3, b", "a *** b"),
        ("go joe@vault now", "go *** now"),
    ] {
        assert_eq!(masker.mask(line), wanted);
    }
    assert!(patterns(&["*"]).unwrap_err().contains("at least 3"));
    assert!(patterns(&["a*?b"]).unwrap_err().contains("\"a*?b\""));
    assert!(patterns(&vec!["abc"; 65]).unwrap_err().contains("at most 64"));
}

#[test]
fn long_lines_cost_little_whatever_stands_in_them() {
    let patterns = Patterns::parse(&["aa*b?c*d".to_owned(), "://*@@".to_owned()]).unwrap();
    let mut masker = Masker::new(Arc::new(patterns));
    for piece in [
        "a",
        "://",
        "://:x/",
        "token",
        "token ",
        "password=\"",
        "password:",
        ",",
        "a=1&",
        "$1$",
        "eyJ",
        "ghp_",
        "-p ",
        "mysql -p",
        "@",
        "aab",
        "é",
        " ",
        "'\\",
        "sshpass -u ",
        ":",
    ] {
        let line = piece.repeat((1 << 20) / piece.len());
        let begun = Instant::now();
        let shown = masker.mask(&line);
        assert!(begun.elapsed() < Duration::from_secs(2), "{piece:?} took {:?}", begun.elapsed());
        assert!(shown.len() <= 4 * WINDOW, "{piece:?}: {} bytes", shown.len());
    }
}

proptest! {
    #[test]
    fn any_line_ends_and_masking_again_hides_nothing_new_whole(line in "\\PC{0,300}") {
        masked(&masked(&line));
    }

    #[test]
    fn any_bytes_of_its_own_words_end(pieces in proptest::collection::vec(prop_oneof![
        Just("password"), Just("="), Just(":"), Just("\""), Just("'"), Just(" "), Just("://"), Just("@"), Just("--token"), Just("$6$"), Just("eyJ"),
        Just("\\"), Just("ü"), Just("mysql -p"), Just("SET a/password "), Just("identified by "), Just("authorization:")], 0..40)) {
        masked(&pieces.concat());
    }

    /// A planted secret never comes out whole, in whatever surroundings.
    #[test]
    fn a_planted_secret_never_survives(
        before in "[a-zA-Z ä]{0,20}",
        after in "[a-z ä]{0,20}",
        // What people and generators take: letters, digits and marks that end no word by themselves.
        secret in "[A-Za-z0-9][A-Za-z0-9!#$%^*+./_~,;:-]{7,30}[A-Za-z0-9]",
        form in 0_usize..18,
    ) {
        let forms = [
            "my_secret={}", "PASSWORD={}", "password: {}", "\"api_key\": \"{}\"", "--password {}", "--token={}", "export DB_PASS='{}'",
            "Authorization: Basic {}", "Cookie: session={}", "mysql -uroot -p{} db", "sshpass -p {} ssh x", "mysql-server mysql-server/root_password password {}",
            "SET app/admin-password {}", "IDENTIFIED BY '{}'", "the password is {}", "curl -u joe:{} x", "https://joe:{}@host.example/x", "x_key={}",
        ];
        // A secret with a colon begins nothing of its own in a header or address.
        let planted = forms[form].replace("{}", &secret);
        let line = format!("{before} {planted} {after}");
        // What is a sentence or an answer stands alone on its line.
        let line = if matches!(form, 11 | 12 | 14) { planted } else { line };
        prop_assert!(!masked(&line).contains(&secret), "{line} came out as {}", masked(&line));
    }

    #[test]
    fn tokens_never_survive(before in "[a-z ]{0,10}", rest in "[A-Za-z0-9]{36}", form in 0_usize..8) {
        let prefixes = ["ghp_", "glpat-", "xoxb-", "sk_live_", "npm_", "hvs.", "github_pat_", "fettle1."];
        let token = format!("{}{rest}", prefixes[form]);
        let line = format!("{before} {token}, and more");
        prop_assert!(!masked(&line).contains(&rest));
    }

    /// The lines of a key, wherever it begins and however it is cut into lines.
    #[test]
    fn a_key_never_survives(body in proptest::collection::vec("[A-Za-z0-9+/]{16,64}", 1..40)) {
        let mut masker = Masker::default();
        masker.mask("-----BEGIN RSA PRIVATE KEY-----");
        for line in &body {
            prop_assert!(!masker.mask(line).contains(line.as_str()));
        }
        masker.mask("-----END RSA PRIVATE KEY-----");
        prop_assert_eq!(masker.mask("after"), "after");
    }
}
