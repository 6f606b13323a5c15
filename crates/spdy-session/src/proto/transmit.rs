//! The octets on their way to the transport: frame heads in one buffer, payloads beside it uncopied.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Payloads up to this many octets are copied beside their heads: one slice less to write costs less than the
/// copy.
const COPY_LIMIT: usize = 512;

/// What is ready to be written, as a [`Buf`]: take it in order with
/// [`chunks_vectored`](Buf::chunks_vectored) and [`advance`](Buf::advance).
#[derive(Debug, Default)]
pub struct Transmit {
    /// Full pieces, oldest first; then comes `tail`.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    /// Octets of `pieces`.
    ahead: usize,
}

impl Transmit {
    /// The buffer that frames are encoded into.
    pub(crate) fn frames(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Adds a payload behind the frames written so far.
    pub(crate) fn push_payload(&mut self, payload: Bytes) {
        if payload.len() <= COPY_LIMIT {
            self.tail.extend_from_slice(&payload);
            return;
        }
        let head = self.tail.split().freeze();
        self.ahead += head.len() + payload.len();
        if !head.is_empty() {
            self.pieces.push_back(head);
        }
        self.pieces.push_back(payload);
    }

    /// Gives the memory back that an idle session does not need.
    pub(crate) fn release(&mut self) {
        if !self.has_remaining() {
            *self = Self::default();
        }
    }
}

impl Buf for Transmit {
    fn remaining(&self) -> usize {
        self.ahead + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail, |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self
            .pieces
            .iter()
            .map(|piece| &piece[..])
            .chain([&self.tail[..]]);
        let mut filled = 0;
        for (slice, chunk) in slices
            .iter_mut()
            .zip(chunks.filter(|chunk| !chunk.is_empty()))
        {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut octets: usize) {
        assert!(octets <= self.remaining(), "advanced past the end");
        while let Some(front) = self.pieces.front_mut() {
            let step = octets.min(front.len());
            front.advance(step);
            self.ahead -= step;
            octets -= step;
            if !front.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.tail.advance(octets);
        if self.tail.is_empty() {
            self.tail.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(transmit: &mut Transmit, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while transmit.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = transmit.chunks_vectored(&mut slices);
            assert!(filled > 0);
            let joined: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let take = step.min(joined.len());
            out.extend_from_slice(&joined[..take]);
            transmit.advance(take);
        }
        out
    }

    #[test]
    fn octets_leave_in_the_order_they_came_whatever_the_step() {
        for step in [1, 7, 600, 100_000] {
            let mut transmit = Transmit::default();
            let mut expected = Vec::new();
            for round in 0..20_u8 {
                let head = [round; 8];
                transmit.frames().extend_from_slice(&head);
                expected.extend_from_slice(&head);
                let payload = vec![round; usize::from(round) * 97];
                expected.extend_from_slice(&payload);
                transmit.push_payload(Bytes::from(payload));
            }
            assert_eq!(transmit.remaining(), expected.len());
            assert_eq!(drain(&mut transmit, step), expected);
        }
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let payload = Bytes::from(vec![7; 10_000]);
        let mut transmit = Transmit::default();
        transmit.frames().extend_from_slice(b"head");
        transmit.push_payload(payload.clone());
        assert_eq!(transmit.pieces[1].as_ptr(), payload.as_ptr());
    }
}
