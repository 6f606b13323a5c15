//! A secret, and the search for it in all forms in which bytes are written.

use std::fmt::Debug;

pub(crate) const SECRET: &str = "Qz7~kx9/Wv3!Tp5@Jb8#";

/// Fails if a text has a part of the secret in any form.
pub(crate) fn search(what: &str, text: &str) {
    // `{:#?}` writes each byte of a list on a line of its own.
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    // Any half of the secret has one of these whole.
    for part in SECRET.as_bytes().chunks(5) {
        for form in forms(part) {
            assert!(!text.contains(&form), "{what} shows {form}: {text}");
        }
    }
}

/// The forms in which formatters write bytes, without white space.
fn forms(part: &[u8]) -> Vec<String> {
    let join = |separator: &str, form: &dyn Fn(&u8) -> String| {
        part.iter().map(form).collect::<Vec<_>>().join(separator)
    };
    vec![
        String::from_utf8(part.to_vec()).unwrap(),
        join("", &|byte| format!("{byte:02x}")),
        join("", &|byte| format!("{byte:02X}")),
        join("", &|byte| format!("\\x{byte:02x}")),
        join("", &|byte| format!("\\x{byte:02X}")),
        join("", &|byte| format!("\\u{{{byte:x}}}")),
        join(",", &|byte| format!("{byte}")),
        join(",", &|byte| format!("{byte:02x}")),
        join(",", &|byte| format!("{byte:02X}")),
        join(",", &|byte| format!("0x{byte:02x}")),
        join(",", &|byte| format!("0x{byte:x}")),
    ]
}

pub(crate) fn hidden(what: &str, value: &dyn Debug) {
    search(what, &format!("{value:?}"));
    search(what, &format!("{value:#?}"));
    search(what, &format!("{value:02x?}"));
    search(what, &format!("{value:02X?}"));
}
