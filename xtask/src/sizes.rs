//! The longest files: places to look, never a failure.

use anyhow::Result;
use std::path::Path;

/// Prints files over 600 lines, longest first.
pub fn report(root: &Path) -> Result<()> {
    let mut files: Vec<(usize, String)> = crate::inner::rust_files(&root.join("crates"))?
        .into_iter()
        .map(|(path, text)| (text.lines().count(), crate::inner::show(root, &path)))
        .filter(|(lines, _)| *lines > 600)
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    for (lines, name) in &files {
        println!("{lines:6} {name}");
    }
    println!("{} files over 600 lines", files.len());
    Ok(())
}
