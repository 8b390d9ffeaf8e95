//! Licences and sources of everything we link.

use crate::metadata::Metadata;

/// Licences that go with `Apache-2.0 OR MIT` in one binary.
const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT-0",
    "CDLA-Permissive-2.0",
    "BSL-1.0",
];

/// Every dependency without an allowed licence or from another source than the registry.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        if package.source.is_empty() {
            if package.licence != "Apache-2.0 OR MIT" {
                complaints
                    .push(format!("{}: the project is `Apache-2.0 OR MIT`, not `{}`", package.name, package.licence));
            }
            continue;
        }
        if !package.source.starts_with("registry+") {
            complaints.push(format!("{} comes from {}", package.name, package.source));
        }
        if !allowed(&package.licence) {
            complaints.push(format!("{} has licence `{}`", package.name, package.licence));
        }
    }
    complaints
}

/// SPDX expression with OR, AND, `/` and parentheses: each AND part needs one allowed OR branch.
fn allowed(expression: &str) -> bool {
    expression
        .replace(['(', ')'], " ")
        .replace('/', " OR ")
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn expressions() {
        assert!(super::allowed("MIT OR GPL-3.0"));
        assert!(super::allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(super::allowed("MIT/Apache-2.0"));
        assert!(!super::allowed("GPL-3.0"));
        assert!(!super::allowed("MIT AND GPL-3.0"));
    }
}
