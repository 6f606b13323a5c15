//! The fields of a mapping in a kubeconfig.

use std::{cell::RefCell, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use yaml_rust2::Yaml;

use crate::{
    Error,
    reload::{Loaded, state},
};

/// A mapping. It notes the files that its fields name.
pub(super) struct Fields<'a> {
    yaml: &'a Yaml,
    /// The kubeconfig. Other files are relative to its folder.
    path: &'a Path,
    files: RefCell<Vec<Loaded>>,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(yaml: &'a Yaml, path: &'a Path) -> Self {
        Self {
            yaml,
            path,
            files: RefCell::new(Vec::new()),
        }
    }

    /// Returns the mapping with a name in a list such as `clusters`.
    pub(super) fn named(&self, list: &str, name: &str, key: &str) -> Result<Self, Error> {
        let mut items = self.yaml[list].as_vec().into_iter().flatten();
        let item = items.find(|item| item["name"].as_str() == Some(name));
        match item.map(|item| &item[key]) {
            Some(yaml @ Yaml::Hash(_)) => Ok(Self::new(yaml, self.path)),
            // A user without fields.
            Some(Yaml::Null) => Ok(Self::new(&Yaml::Null, self.path)),
            Some(_) => Err(Error::new(format!("{key} `{name}` is not a mapping"))),
            None => Err(Error::new(format!("there is no {key} `{name}`"))),
        }
    }

    /// Returns an error if one of the fields is there.
    pub(super) fn refuse(&self, keys: &[&str]) -> Result<(), Error> {
        let is_there = |key: &&&str| !self.yaml[**key].is_badvalue();
        match keys.iter().find(is_there) {
            Some(key) => Err(Error::new(format!("`{key}` is not supported"))),
            None => Ok(()),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Error> {
        match &self.yaml[key] {
            Yaml::BadValue | Yaml::Null => Ok(None),
            Yaml::String(text) if text.is_empty() => Ok(None),
            Yaml::String(text) => Ok(Some(text.clone())),
            _ => Err(Error::new(format!("`{key}` is not a string"))),
        }
    }

    pub(super) fn required(&self, key: &str) -> Result<String, Error> {
        self.text(key)?
            .ok_or_else(|| Error::new(format!("`{key}` is missing")))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        match &self.yaml[key] {
            Yaml::BadValue | Yaml::Null => Ok(false),
            Yaml::Boolean(flag) => Ok(*flag),
            _ => Err(Error::new(format!("`{key}` is not true or false"))),
        }
    }

    /// Returns the contents of a file that a field names.
    pub(super) fn file(&self, key: &str) -> Result<Option<String>, Error> {
        let Some(name) = self.text(key)? else {
            return Ok(None);
        };
        let path = self.path.with_file_name("").join(name);
        let state = state(&path);
        let text = fs::read_to_string(&path).map_err(|error| Error::read(&path, error))?;
        self.files.borrow_mut().push((path, state));
        Ok(Some(text))
    }

    /// Returns what a field has as base64, or otherwise the contents of the file that another field
    /// names.
    pub(super) fn bytes(&self, data: &str, file: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(text) = self.text(data)? else {
            return Ok(self.file(file)?.map(String::into_bytes));
        };
        let decoded = BASE64_STANDARD.decode(text.trim());
        let invalid = |error| Error::because(format!("`{data}` is not base64"), error);
        decoded.map(Some).map_err(invalid)
    }

    /// Returns the files that were read.
    pub(super) fn files(&self) -> Vec<Loaded> {
        self.files.borrow().clone()
    }
}
