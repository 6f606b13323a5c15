//! The rule, by each way to resolve a path.

use std::{
    env, fs,
    io::Read,
    os::unix::fs::symlink,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use super::*;

/// Creates a directory, with another one beside it, and returns it by each way that keeps inside.
fn roots(test: &str) -> (PathBuf, Vec<Root>) {
    let all = env::temp_dir().join(format!("spdy-root-{test}-{}", process::id()));
    let _ = fs::remove_dir_all(&all);
    for directory in ["root/sub", "outside"] {
        fs::create_dir_all(all.join(directory)).unwrap();
    }
    fs::write(all.join("root/sub/page"), "inside").unwrap();
    fs::write(all.join("outside/page"), "outside").unwrap();
    let path = all.join("root");
    let ways = [
        #[cfg(target_os = "linux")]
        Way::Beneath,
        Way::Real,
    ];
    let roots = ways.map(|way| Root {
        path: path.clone(),
        hidden: false,
        way,
    });
    (all, roots.into())
}

fn read(root: &Root, path: &str) -> io::Result<String> {
    let below = root.below(path.into())?;
    assert_eq!(root.metadata(&below).is_ok(), root.open(&below).is_ok());
    read_once(root, &below)
}

fn read_once(root: &Root, below: &Below) -> io::Result<String> {
    let mut text = String::new();
    root.open(below)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(target_os = "linux")]
#[test]
fn this_kernel_keeps_inside() {
    let (all, _) = roots("kernel");
    let root = Root::new(&Directory::new(all.join("root")));
    assert_eq!(root.way, Way::Beneath);
    fs::remove_dir_all(all).unwrap();
}

#[test]
fn links_inside_are_followed_and_links_that_lead_out_are_missing() {
    let (all, roots) = roots("links");
    for (link, target) in [
        ("in", "sub/page".into()),
        ("absolute", all.join("root/sub/page")),
        ("chain", "absolute".into()),
        ("sub/up", "../in".into()),
        ("directory", "sub".into()),
        ("out", "../outside/page".into()),
        ("far", all.join("outside")),
        ("again", "out".into()),
        ("loop", "loop".into()),
    ] {
        symlink(target, all.join("root").join(link)).unwrap();
    }
    for root in roots {
        for path in [
            "sub/page",
            "in",
            "absolute",
            "chain",
            "sub/up",
            "directory/page",
            "./in",
        ] {
            assert_eq!(read(&root, path).unwrap(), "inside", "{path} {root:?}");
        }
        for path in [
            "out",
            "far",
            "far/page",
            "again",
            "loop",
            "sub/page/x",
            "missing",
        ] {
            let error = read(&root, path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path} {root:?}");
        }
        let root_itself = root.below("./".into()).unwrap();
        assert!(root.metadata(&root_itself).unwrap().is_dir());
        let names = root.names(&root_itself).unwrap().count();
        assert_eq!(names, 9);
    }
    fs::remove_dir_all(all).unwrap();
}

#[test]
fn no_path_leads_up_or_has_a_hidden_name() {
    let (all, roots) = roots("names");
    for root in roots {
        for path in [
            "..",
            "sub/..",
            "../outside/page",
            "/etc",
            "a\0b",
            ".x",
            "sub/.x/y",
            "...",
        ] {
            assert!(root.below(path.into()).is_err(), "{path}");
        }
        for path in [
            "",
            ".",
            "./sub",
            ".well-known",
            ".well-known/x",
            "a.b",
            "a\\b",
        ] {
            assert!(root.below(path.into()).is_ok(), "{path}");
        }
        for path in ["sub/.well-known", ".well-known/.x", ".well-known.x"] {
            assert!(root.below(path.into()).is_err(), "{path}");
        }
    }
    fs::remove_dir_all(all).unwrap();
}

/// A directory and a link that leads out change places, again and again.
#[cfg(target_os = "linux")]
#[test]
fn what_is_replaced_between_two_steps_does_not_lead_out() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let (all, roots) = roots("swapped");
    let (sub, link) = (all.join("root/sub"), all.join("root/link"));
    symlink("../outside", &link).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let swapper = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Relaxed) {
                renameat_with(CWD, &sub, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    for root in &roots {
        let below = root.below("sub/page".into()).unwrap();
        for _ in 0..5_000 {
            match read_once(root, &below) {
                Ok(text) => assert_eq!(text, "inside", "{root:?}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{root:?}"),
            }
        }
    }
    is_over.store(true, Relaxed);
    swapper.join().unwrap();
    fs::remove_dir_all(all).unwrap();
}
