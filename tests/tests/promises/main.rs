//! The promises of a session, by number: the groups L1 to L12, and X1 to X17, which have no group.
//! A test names its promise: `l03_2_…`, `x11_…`.
//!
//! | Group | Promises about |
//! |---|---|
//! | L1 | the choice of the protocol |
//! | L2 | answers and errors that the peer does not read |
//! | L3 | credit, and payload that the application does not read |
//! | L4, L7 | GOAWAY, and the end of the ids |
//! | L5, L6 | SETTINGS, and HEADERS |
//! | L8, L12 | the version of frames, and the codec |
//! | L9 | streams that wait to be accepted |
//! | L10 | errors |
//! | L11 | large sends |

mod bounds;
mod endings;
mod errors;
mod frames_and_settings;
mod reading;
mod sending;

use std::{collections::BTreeSet, fs, path::Path};

/// How many promises each group has.
const GROUPS: [usize; 12] = [5, 4, 6, 7, 6, 5, 3, 4, 3, 6, 5, 5];
/// How many promises have no group.
const SINGLE: usize = 17;

/// Promises that are tested elsewhere.
const ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "l01_1",
        &[
            "c001_a_protocol_that_is_offered_alone_is_selected",
            "c001_c007_pages_downloads_and_uploads_come_whole",
        ],
    ),
    (
        "l01_2",
        &[
            "c001_a_protocol_that_is_offered_alone_is_selected",
            "c025_c031_every_kind_of_frame_is_sent_as_the_version_has_it",
        ],
    ),
    (
        "l01_3",
        &["c003_http_1_is_served_when_no_protocol_is_in_common"],
    ),
    (
        "l01_4",
        &["c003_with_no_protocol_in_common_none_is_selected_and_http_1_is_spoken"],
    ),
    (
        "l01_5",
        &["c002_the_servers_preference_decides_and_3_1_comes_first"],
    ),
    (
        "l02_1",
        &[
            "c092_a_peer_that_never_reads_its_answers_is_cut_off",
            "c092_pings_that_nobody_reads_the_answers_to_end_the_session_in_time",
        ],
    ),
    (
        "l03_6",
        &["c029_no_memory_is_reserved_for_what_is_only_announced"],
    ),
    (
        "l05_2",
        &[
            "c183_a_small_initial_window_holds_from_the_start",
            "c184_a_window_that_was_made_negative_has_to_be_paid_back",
        ],
    ),
    (
        "l05_3",
        &[
            "c072_c073_the_first_frame_says_what_the_peer_may_do",
            "c056_a_stream_over_the_limit_is_refused_and_the_others_live",
        ],
    ),
    (
        "l05_5",
        &[
            "c076_unknown_ids_are_ignored",
            "c079_c080_a_count_that_does_not_fit_the_length_ends_the_session",
        ],
    ),
    (
        "l06_5",
        &["c107_headers_on_a_stream_that_never_was_are_answered_once"],
    ),
    (
        "l07_2",
        &["c040_c041_a_stream_with_the_last_id_is_served_and_the_session_drains"],
    ),
    (
        "l08_4",
        &["c007_the_version_field_of_the_first_control_frame_tells_spdy_2_from_3"],
    ),
    (
        "l10_6",
        &["a_stream_that_breaks_is_an_error_after_what_came_before"],
    ),
    (
        "l11_3",
        &["c124_the_highest_priority_is_served_first_and_the_lowest_at_last"],
    ),
    ("l11_4", &["c090_an_answer_overtakes_data_that_is_queued"]),
    // The codec depends on no runtime: `.ci/run` checks its dependencies.
    (
        "l12_1",
        &["what_is_decoded_can_be_encoded_and_decoded_again"],
    ),
    (
        "l12_2",
        &[
            "what_is_decoded_can_be_encoded_and_decoded_again",
            "c017_what_is_written_is_read_again_in_order",
        ],
    ),
    (
        "l12_4",
        &[
            "c016_it_does_not_matter_in_which_pieces_bytes_arrive",
            "decoding_is_the_same_at_once_and_in_pieces",
        ],
    ),
    // The types of frames are private constants of the codec, so nothing else can read them.
    ("l12_5", &["c018_unknown_types_are_skipped_by_their_length"]),
    (
        "x04",
        &["a_stream_that_breaks_is_an_error_after_what_came_before"],
    ),
    (
        "x07",
        &["c108_c113_c114_data_and_headers_after_fin_reset_the_stream"],
    ),
    (
        "x09",
        &[
            "c123_streams_of_one_priority_take_turns_in_frames_of_the_configured_size",
            "c124_the_highest_priority_is_served_first_and_the_lowest_at_last",
        ],
    ),
    (
        "x10",
        &[
            "c133_to_c141_c146_a_malformed_block_resets_only_its_stream",
            "c130_c131_c132_a_context_that_is_lost_ends_the_session",
        ],
    ),
    (
        "x11",
        &["c143_what_is_sent_has_names_in_lower_case_and_each_once"],
    ),
    (
        "x13",
        &[
            "a_client_that_has_closed_its_direction_gets_its_answers",
            "c210_a_transport_that_closes_leaves_the_outcome_of_open_streams_unknown",
        ],
    ),
    ("x14", &["c159_a_response_without_a_body_is_one_frame"]),
    (
        "x15",
        &["c100_streams_above_the_last_good_may_be_tried_again"],
    ),
    (
        "x16",
        &["c097_c098_streams_after_our_go_away_are_ignored_and_their_bytes_given_back"],
    ),
    ("x17", &["every_row_has_a_test_or_a_reason"]),
];

#[test]
fn every_promise_has_a_test() {
    let mut functions = BTreeSet::new();
    let root = spdy_tests::conformance::root();
    for folder in ["crates", "tests"] {
        collect(&root.join(folder), &mut functions);
    }
    let of_groups = GROUPS
        .iter()
        .zip(1..)
        .flat_map(|(promises, group)| (1..=*promises).map(move |n| format!("l{group:02}_{n}")));
    let single = (1..=SINGLE).map(|n| format!("x{n:02}"));
    for promise in of_groups.chain(single) {
        let part = format!("{promise}_");
        let is_here = functions.iter().any(|name| name.contains(&part));
        let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == promise);
        assert!(is_here || elsewhere.is_some(), "{promise} has no test");
        for name in elsewhere.iter().flat_map(|(_, names)| *names) {
            assert!(functions.contains(*name), "{promise}: there is no {name}");
        }
    }
}

/// The names of all functions in a folder.
fn collect(folder: &Path, functions: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            collect(&path, functions);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let names = text.lines().filter_map(|line| {
                let line = line.trim_start();
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("fn ")?
                    .split('(')
                    .next()
                    .map(str::to_owned)
            });
            functions.extend(names);
        }
    }
}
