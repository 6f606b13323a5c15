//! The sending half of an exchange, on either side: the response to a request, the body of a
//! request, a push.
//!
//! [`Pump`] moves a body, [`Answer`] knows what can still be sent on the stream, and [`Failure`] is
//! how the sending half ends early.

mod answer;
mod failure;
mod guard;
mod pump;

pub use self::failure::BoxError;
pub(crate) use self::{
    answer::Answer,
    failure::{Failure, Unsendable},
    guard::guarded,
    pump::{Pump, WRONG_LENGTH},
};
