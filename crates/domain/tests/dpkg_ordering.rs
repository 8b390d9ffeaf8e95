//! dpkg's ordering against dpkg's own answers, and the laws every ordering obeys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::version::{Scheme, table};
use proptest::prelude::*;
use std::cmp::Ordering;

fn passes_whole(text: &str, at_least: usize) {
    let result = table::check(Scheme::Dpkg, text);
    assert!(result.failed.is_empty(), "{result}");
    assert!(result.passed >= at_least, "only {} cases were checked", result.passed);
}

#[test]
fn the_sample_in_the_project_passes_whole() {
    passes_whole(include_str!("data/dpkg-sample.tsv"), 200);
}

#[test]
fn the_shared_table_passes_whole_where_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/versions/dpkg.tsv");
    // Developers' data lies beside the checkout; the sample above does the work without it.
    if let Ok(text) = std::fs::read_to_string(path) {
        passes_whole(&text, 2_000);
    }
}

#[test]
fn numbers_of_any_length_are_compared() {
    let long = "9".repeat(5_000);
    assert_eq!(Scheme::Dpkg.compare(&format!("1.{long}"), &format!("1.1{long}")), Ok(Ordering::Less));
}

/// Versions close to each other, so that ties and near ties are common.
fn version() -> impl Strategy<Value = String> {
    ("([0-2]:)?", "[0-2]{1,2}[a-b.+~0]{0,4}", "(-[0-1a~.+]{1,3})?")
        .prop_map(|(epoch, upstream, revision)| format!("{epoch}{upstream}{revision}"))
}

fn order(a: &str, b: &str) -> Ordering {
    Scheme::Dpkg.compare(a, b).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_version_equals_itself(a in version()) {
        prop_assert_eq!(order(&a, &a), Ordering::Equal);
    }

    #[test]
    fn swapping_the_sides_reverses_the_order(a in version(), b in version()) {
        prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
    }

    #[test]
    fn the_order_is_transitive(a in version(), b in version(), c in version()) {
        let mut sorted = [a, b, c];
        sorted.sort_by(|x, y| order(x, y));
        let [low, middle, high] = &sorted;
        prop_assert_ne!(order(low, middle), Ordering::Greater);
        prop_assert_ne!(order(middle, high), Ordering::Greater);
        prop_assert_ne!(order(low, high), Ordering::Greater);
        if order(low, middle) == Ordering::Equal && order(middle, high) == Ordering::Equal {
            prop_assert_eq!(order(low, high), Ordering::Equal);
        }
    }

    #[test]
    fn a_tilde_sorts_before_the_same_without(a in "[0-9]{1,3}(\\.[0-9]{1,2}){0,2}") {
        prop_assert_eq!(order(&format!("{a}~rc1"), &a), Ordering::Less);
        prop_assert_eq!(order(&format!("{a}+deb12u1"), &a), Ordering::Greater);
    }

    #[test]
    fn no_text_makes_it_panic(a in "\\PC{0,40}", b in "[ -~]{0,40}") {
        let _ = Scheme::Dpkg.compare(&a, &b);
        let _ = Scheme::Dpkg.validate(&a);
    }
}
