//! The source tree in which a resource is written. Changes are collected and written together, so
//! that a refused one leaves everything as it was.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::template::formatted;
use crate::cli::Failure;

/// A checkout of tenantry, and the changes that are to be written.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
    changed: BTreeMap<String, String>,
    created: Vec<String>,
}

impl Tree {
    /// The checkout that contains the current folder.
    pub(super) fn find() -> Result<Self, Failure> {
        let here = std::env::current_dir()?;
        let is_root = |folder: &&Path| folder.join("migration/src/app/mod.rs").is_file();
        let root = here.ancestors().find(is_root).ok_or_else(|| {
            Failure::new(
                "this folder is in no checkout of tenantry. Run the command in your clone.",
            )
        })?;
        Ok(Self { root: root.to_owned(), changed: BTreeMap::new(), created: Vec::new() })
    }

    /// The text of a file, with the changes so far. `None` if it does not exist.
    pub(super) fn find_file(&self, path: &str) -> Option<String> {
        let changed = self.changed.get(path).cloned();
        changed.or_else(|| fs::read_to_string(self.root.join(path)).ok())
    }

    /// Whether a file or folder exists.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The names in a folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Adds a new file.
    pub(super) fn create(&mut self, path: String, text: &str) -> Result<(), Failure> {
        if self.exists(&path) {
            return Err(Failure::new(format!("{path} exists already. Choose another name.")));
        }
        let text = formatted(&self.root, &path, text)?;
        self.created.push(path.clone());
        self.changed.insert(path, text);
        Ok(())
    }

    /// Changes a file.
    pub(super) fn edit(
        &mut self,
        path: &str,
        edit: impl FnOnce(&mut Text) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let text = self.find_file(path);
        let text = text.ok_or_else(|| Failure::new(format!("{path} does not exist")))?;
        let mut text = Text { path: path.to_owned(), text };
        edit(&mut text)?;
        let text = formatted(&self.root, path, &text.text)?;
        self.changed.insert(path.to_owned(), text);
        Ok(())
    }

    /// The files that are created, and those that are changed.
    pub(super) fn summary(&self) -> Vec<String> {
        let created = self.created.iter().map(|path| format!("create {path}"));
        let changed = self.changed.keys().filter(|path| !self.created.contains(path));
        created.chain(changed.map(|path| format!("edit   {path}"))).collect()
    }

    /// Writes all changes.
    pub(super) fn write(&self) -> Result<(), Failure> {
        for (path, text) in &self.changed {
            let problem = |error: std::io::Error| Failure::new(format!("{path}: {error}"));
            let file = self.root.join(path);
            fs::create_dir_all(file.parent().unwrap_or(&self.root)).map_err(problem)?;
            fs::write(file, text).map_err(problem)?;
        }
        Ok(())
    }
}

/// The text of a file that is changed.
#[derive(Debug)]
pub(super) struct Text {
    path: String,
    text: String,
}

impl Text {
    /// The place after the only occurrence of `mark`.
    fn after(&self, mark: &str) -> Result<usize, Failure> {
        let missing = || {
            let (path, line) = (&self.path, mark.trim());
            Failure::new(format!(
                "{path} has no line `{line}`, or several: register the resource by hand, see CONTRIBUTING.md"
            ))
        };
        let at = self.text.find(mark).ok_or_else(missing)?;
        if self.text.rfind(mark) == Some(at) { Ok(at + mark.len()) } else { Err(missing()) }
    }

    /// Inserts a text before the first `end` after the only occurrence of `mark`.
    pub(super) fn append(&mut self, mark: &str, end: &str, text: &str) -> Result<(), Failure> {
        let start = self.after(mark)?;
        let end = self.text[start..].find(end).map(|end| start + end);
        let end = end
            .ok_or_else(|| Failure::new(format!("{}: `{}` has no end", self.path, mark.trim())))?;
        self.text.insert_str(end, text);
        Ok(())
    }

    /// Adds an item to the list that ends with the first `end` after the only occurrence of `mark`.
    pub(super) fn append_item(&mut self, mark: &str, end: &str, item: &str) -> Result<(), Failure> {
        let start = self.after(mark)?;
        let list = self.text[start..].split(end).next().unwrap_or_default();
        let is_separated = list.trim_end().ends_with(['[', ',']);
        let item = if is_separated { item.to_owned() } else { format!(", {item}") };
        self.append(mark, end, &item)
    }

    /// Adds a line after the last one that begins with `prefix`; without one, after the file's
    /// documentation. rustfmt sorts the lines.
    pub(super) fn add_line(&mut self, prefix: &str, line: &str) -> Result<(), Failure> {
        let last = self.text.lines().rfind(|line| line.starts_with(prefix)).map(ToOwned::to_owned);
        if let Some(last) = last {
            return self.replace(&last, &format!("{last}\n{line}"));
        }
        let header = self.text.find("\n\n").map_or(0, |end| end + 1);
        self.text.insert_str(header, &format!("\n{line}\n"));
        Ok(())
    }

    /// Replaces the only occurrence of a text.
    pub(super) fn replace(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let end = self.after(from)?;
        self.text.replace_range(end - from.len()..end, to);
        Ok(())
    }

    /// The first line that begins with this text.
    pub(super) fn line(&self, start: &str) -> Option<String> {
        self.text.lines().find(|line| line.starts_with(start)).map(ToOwned::to_owned)
    }
}
