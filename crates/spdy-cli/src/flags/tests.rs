//! The command line is consistent, and what it says of a wrong one.

use clap::CommandFactory;

use super::*;

#[test]
fn the_flags_are_consistent() {
    Flags::command().debug_assert();
}

#[test]
fn no_error_shows_a_password() {
    for words in [
        "spdy get https://me:secret@a.test/",
        "spdy get https://me:sec/ret@a.test/",
        "spdy get -x socks5://me:secret@a.test http://a/",
        "spdy ping -x me:secret@: http://a/",
        "spdy load me:secret@a.test",
    ] {
        let error = Flags::try_parse_from(words.split(' ')).unwrap_err();
        let error = without_secret(error).to_string();
        assert!(!error.contains("sec") && error.contains("***@"), "{error}");
    }
}

#[test]
fn no_error_shows_a_value_that_may_be_a_secret() {
    for words in [
        "spdy get -u secret http://a/",
        "spdy get --user=me@secret http://a/",
        "spdy get -U secret http://a/",
        "spdy ping --proxy-user secret http://a/",
        "spdy get -H secret http://a/",
        "spdy load -H a:\tsecret\u{1} http://a/",
    ] {
        let error = Flags::try_parse_from(words.split(' ')).unwrap_err();
        let error = without_secret(error).to_string();
        assert!(!error.contains("sec") && error.contains("'***'"), "{error}");
    }
}

#[test]
fn invalid_command_lines_are_refused() {
    for words in [
        "spdy",
        "spdy --man get http://a/",
        "spdy --man server",
        "spdy --completions",
        "spdy get",
        "spdy get a.test",
        "spdy get --version 4 http://a/",
        "spdy get --http1 --version 3 http://a/",
        "spdy get -H nothing http://a/",
        "spdy get -X CONNECT http://a/",
        "spdy get --insecure --cacert f https://a/",
        "spdy get --proxy-insecure --proxy-cacert f https://a/",
        "spdy get --proxy-key f https://a/",
        "spdy get -x socks5://a.test http://a/",
        "spdy load -x http://a.test http://a/",
        "spdy ping -n 0 http://a/",
        "spdy load --h2 --version 3 http://a/",
        "spdy load -c 0 http://a/",
        "spdy inspect 1 f",
    ] {
        assert!(Flags::try_parse_from(words.split(' ')).is_err(), "{words}");
    }
}
