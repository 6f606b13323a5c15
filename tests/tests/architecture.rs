//! ARCHITECTURE.md names files that exist, and what it tells about the files of spdy-session is
//! true: handles and driver meet in what they share, and no files know each other in a circle.

use std::{fs, path::Path};

use spdy_tests::conformance::root;

/// Collects the paths of all sources below a folder, each with `/` in front.
fn collect(root: &Path, folder: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && name != "node_modules" {
                collect(root, &path, paths);
            }
        } else {
            paths.push(format!("/{path}"));
        }
    }
}

#[test]
fn every_file_that_the_page_names_exists() {
    let root = root();
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut paths = Vec::new();
    for folder in ["crates", "tests"] {
        collect(&root, folder, &mut paths);
    }
    let in_code = page.split('`').skip(1).step_by(2);
    let names: Vec<&str> = in_code.filter(|name| name.ends_with(".rs")).collect();
    assert!(names.len() > 100, "the page has other quotes now");
    for name in names {
        let name = name.replace("conn/", "proto/connection/");
        let end = format!("/{name}");
        let exists = paths.iter().any(|path| path.ends_with(&end));
        assert!(exists, "there is no file {name}");
    }
}

/// Which file of spdy-session names which other one. The files of the machine count as one.
mod edges {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::Path,
    };

    use super::root;

    /// The path of a module. Each file is one, and that of lib.rs is empty.
    type Module = Vec<String>;

    /// The files of the crate as modules, each with its words and signs.
    struct Crate {
        files: BTreeMap<Module, Vec<String>>,
        /// What the `use` declarations of a file bring in, by name.
        imports: BTreeMap<Module, BTreeMap<String, Module>>,
    }

    impl Crate {
        fn read() -> Self {
            let mut files = BTreeMap::new();
            let src = root().join("crates/spdy-session/src");
            collect(&src, &Vec::new(), &mut files);
            let mut imports = BTreeMap::new();
            for (module, tokens) in &files {
                let uses = tokens.iter().enumerate().filter(|(_, it)| *it == "use");
                let paths = uses.flat_map(|(at, _)| tree(tokens, &mut (at + 1)));
                let names = paths.map(|path| (path.last().unwrap().clone(), path));
                imports.insert(module.clone(), names.collect());
            }
            Self { files, imports }
        }

        /// Returns the file that has what `path` names when it stands in the file `from`.
        fn home(&self, from: &[String], path: &[String]) -> Option<Module> {
            let (first, mut rest) = path.split_first()?;
            let mut module = match first.as_str() {
                "crate" => Module::new(),
                "self" => from.to_vec(),
                "super" => from[..from.len() - 1].to_vec(),
                _ => return None,
            };
            while let Some((name, behind)) = rest.split_first() {
                let child = [&module[..], std::slice::from_ref(name)].concat();
                if name == "super" {
                    module.pop();
                } else if self.files.contains_key(&child) {
                    module = child;
                } else {
                    break;
                }
                rest = behind;
            }
            let imported = rest.first().and_then(|it| self.imports[&module].get(it));
            match imported {
                Some(path) if *path != [["self".into()], [rest[0].clone()]].concat() => {
                    self.home(&module, &[path, &rest[1..]].concat())
                }
                _ if module.is_empty() => None,
                _ => Some(module),
            }
        }

        /// Returns the files that the file names, without itself.
        fn named(&self, from: &Module) -> BTreeSet<Module> {
            let tokens = &self.files[from];
            let is_start = |it: &str| matches!(it, "crate" | "self" | "super");
            let starts = (0..tokens.len()).filter(|at| {
                let is_first = *at == 0 || tokens[at - 1] != "::";
                is_first
                    && is_start(&tokens[*at])
                    && tokens.get(at + 1).is_some_and(|it| it == "::")
            });
            let paths = starts.flat_map(|at| tree(tokens, &mut { at }));
            let homes = paths.filter_map(|path| self.home(from, &path));
            homes.map(machine).filter(|home| home != from).collect()
        }
    }

    /// The machine is one for all its files.
    fn machine(mut module: Module) -> Module {
        if module[0] == "proto" {
            module.truncate(1);
        }
        module
    }

    fn collect(folder: &Path, above: &Module, files: &mut BTreeMap<Module, Vec<String>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut module = above.clone();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if name != "lib" {
                module.push(name.to_owned());
            }
            if path.is_dir() {
                collect(&path, &module, files);
            } else if name != "tests" {
                files.insert(module, tokens(&fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// Takes the test module out, and keeps the code behind it.
    fn without_tests(source: &str) -> String {
        let Some((before, tests)) = source.split_once("\nmod tests") else {
            return source.to_owned();
        };
        // rustfmt closes a module in the first column.
        let end = if tests.starts_with(';') {
            "\n"
        } else {
            "\n}\n"
        };
        let behind = tests.split_once(end).map_or("", |(_, behind)| behind);
        format!("{before}\n{}", without_tests(behind))
    }

    #[test]
    fn code_after_the_test_module_of_a_file_is_checked() {
        for tests in ["mod tests;\n", "mod tests {\n    use super::*;\n}\n"] {
            let source = format!("use crate::a;\n\n#[cfg(test)]\n{tests}\nuse crate::b;\n");
            let tokens = tokens(&source);
            assert!(!tokens.contains(&"super".to_owned()), "{tokens:?}");
            for name in ["a", "b"] {
                assert!(tokens.contains(&name.to_owned()), "{tokens:?}");
            }
        }
    }

    /// The words and signs of a source, without its comments and tests.
    fn tokens(source: &str) -> Vec<String> {
        let code = without_tests(source);
        let lines = code.lines().map(|line| line.split("//").next().unwrap());
        let mut tokens: Vec<String> = Vec::new();
        let is_word = |it: char| it.is_alphanumeric() || it == '_';
        for line in lines {
            let mut rest = line.trim_start();
            while let Some(first) = rest.chars().next() {
                let length = if is_word(first) {
                    rest.find(|it| !is_word(it)).unwrap_or(rest.len())
                } else if rest.starts_with("::") {
                    2
                } else {
                    first.len_utf8()
                };
                tokens.push(rest[..length].to_owned());
                rest = rest[length..].trim_start();
            }
        }
        tokens
    }

    /// The paths that begin at a word: one, or several with braces.
    fn tree(tokens: &[String], at: &mut usize) -> Vec<Module> {
        let mut path = Module::new();
        while let Some(token) = tokens.get(*at) {
            *at += 1;
            if token == "{" {
                let mut all = Vec::new();
                while tokens[*at] != "}" {
                    let ends = tree(tokens, at);
                    all.extend(ends.into_iter().map(|end| {
                        let is_itself = end == ["self"];
                        let end = if is_itself { &[][..] } else { &end[..] };
                        [&path[..], end].concat()
                    }));
                    *at += usize::from(tokens[*at] == ",");
                }
                *at += 1;
                return all;
            }
            path.push(token.clone());
            if tokens.get(*at).is_none_or(|it| it != "::") {
                break;
            }
            *at += 1;
        }
        vec![path]
    }

    fn layer(module: &Module) -> &str {
        module.first().map_or("", String::as_str)
    }

    #[test]
    fn handles_and_driver_know_what_they_share_and_not_each_other() {
        let all = Crate::read();
        let mut pairs = BTreeSet::new();
        for file in all.files.keys().filter(|it| !it.is_empty()) {
            for other in all.named(file) {
                let (from, to) = (layer(file).to_owned(), layer(&other).to_owned());
                let is_forbidden = match from.as_str() {
                    "proto" => matches!(to.as_str(), "shared" | "handle" | "driver" | "session"),
                    "shared" => matches!(to.as_str(), "handle" | "driver" | "session"),
                    "handle" => matches!(to.as_str(), "driver" | "session"),
                    "driver" => matches!(to.as_str(), "handle" | "session"),
                    _ => false,
                };
                assert!(!is_forbidden, "{file:?} names {other:?}");
                pairs.insert((from, to));
            }
        }
        for (from, to) in [
            ("handle", "shared"),
            ("driver", "shared"),
            ("shared", "proto"),
        ] {
            let pair = (from.to_owned(), to.to_owned());
            assert!(pairs.contains(&pair), "{pair:?} is not found: {pairs:?}");
        }
    }

    #[test]
    fn files_outside_of_the_machine_form_no_circle() {
        let all = Crate::read();
        let outside = |it: &&Module| !matches!(layer(it), "" | "proto");
        let mut named: BTreeMap<Module, BTreeSet<Module>> = all
            .files
            .keys()
            .filter(outside)
            .map(|file| (file.clone(), all.named(file)))
            .collect();
        assert!(named.len() > 25, "{} files were found", named.len());
        // Files that name none that is left are taken away. What remains at last is a circle.
        for others in named.values_mut() {
            others.retain(|it| layer(it) != "proto");
        }
        while let Some(last) = named.iter().find(|(_, others)| others.is_empty()) {
            let last = last.0.clone();
            named.remove(&last);
            named.values_mut().for_each(|it| _ = it.remove(&last));
        }
        assert!(named.is_empty(), "these name each other: {named:#?}");
    }
}
