//! Rules inside rooms, from one scan of `use crate::…` and of SQL words.

use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of server, and the `crate::` modules its files must never name.
const SERVER: &[(&str, &[&str])] = &[
    ("api", &["census", "notify", "distribute", "steps"]),
    ("ui", &["api", "census", "notify", "distribute", "steps"]),
    ("census", &["notify", "distribute", "steps", "ui", "api"]),
    ("notify", &["census", "distribute", "steps", "ui", "api"]),
    ("distribute", &["census", "notify", "steps", "ui", "api"]),
    ("steps", &["census", "notify", "distribute", "ui", "api", "ops"]),
];

/// Words of ours that hosts have and the shareable half of the store must not.
const PRIVATE_WORDS: &[&str] = &["HostId", "host_id", "FROM host", "JOIN host", "finding"];

/// Every place where an inner rule is broken.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let server = root.join("crates/server/src");
    for (folder, banned) in SERVER {
        for (path, text) in sources_of(&server, folder)? {
            for module in *banned {
                if text.contains(&format!("crate::{module}::")) {
                    complaints.push(format!("{} must not use crate::{module}", show(root, &path)));
                }
            }
            let pages_or_api = matches!(*folder, "ui" | "api");
            if pages_or_api
                && (text.contains("store.read(")
                    || text.contains("store.write(")
                    || text.contains("fettle_store::systems"))
            {
                complaints.push(format!("{} goes past `ops` to the store", show(root, &path)));
            }
        }
    }
    for (path, text) in
        rust_files(&root.join("crates/server/src"))?.into_iter().chain(rust_files(&root.join("crates/app/src"))?)
    {
        if ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM"].iter().any(|word| text.contains(&format!("\"{word}"))) {
            complaints.push(format!("{} holds SQL; it belongs into the store", show(root, &path)));
        }
    }
    for (path, text) in rust_files(&root.join("crates/store/src/patches"))? {
        for word in PRIVATE_WORDS.iter().filter(|word| text.contains(**word)) {
            complaints.push(format!("{} mentions `{word}`: patches never mention a host", show(root, &path)));
        }
    }
    Ok(complaints)
}

fn sources_of(server: &Path, folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut files = rust_files(&server.join(folder))?;
    let single = server.join(format!("{folder}.rs"));
    if single.exists() {
        let text = fs::read_to_string(&single)?;
        files.push((single, text));
    }
    Ok(files)
}

/// All Rust files below a folder with their text, tests modules cut off.
pub fn rust_files(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
                files.push((path, code));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A path as it stands in the project.
pub fn show(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
