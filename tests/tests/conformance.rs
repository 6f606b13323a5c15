//! Every row of the checklist (protocol.md §23) has a test, or a reason why it has none.

use spdy_tests::conformance::{check, rows, tests};

#[test]
fn every_row_has_a_test_or_a_reason() {
    let rows = rows().unwrap();
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=210).collect::<Vec<_>>());
    check(&rows, &tests().unwrap()).unwrap();
}
