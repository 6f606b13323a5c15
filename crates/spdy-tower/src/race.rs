//! One connection to a host with several addresses.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{net::TcpStream, time::sleep};

/// Connects to the first of several addresses that answers (Happy Eyeballs, [RFC 8305]). The
/// transport has TCP_NODELAY.
///
/// The addresses are tried in their order, except that the two versions of IP take turns. The next
/// one is tried when the one before has failed or has been silent for 250 ms, and both go on.
/// Addresses after the first 64 are not tried.
///
/// There is no timeout but that of the system. Dropping the future closes all attempts.
///
/// # Errors
///
/// The error of the address that failed first, if all have failed. `AddrNotAvailable`, with which a
/// machine without IPv6 fails for an address of that version, is the error only if it is that of
/// all. `NotFound` if there are none.
///
/// [RFC 8305]: https://www.rfc-editor.org/rfc/rfc8305
pub async fn connect_any(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let transport = race(addresses, TcpStream::connect).await?;
    transport.set_nodelay(true)?;
    Ok(transport)
}

async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut next = taking_turns(addresses.into_iter().take(MAX_ADDRESSES));
    let mut attempts = Vec::new();
    let mut failed = None;
    loop {
        match next.pop_front() {
            Some(address) => attempts.push(Box::pin(connect(address))),
            None if attempts.is_empty() => return Err(failed.unwrap_or_else(no_address)),
            None => {}
        }
        tokio::select! {
            biased;
            ended = poll_fn(|cx| first(&mut attempts, cx)) => match ended {
                Ok(transport) => return Ok(transport),
                Err(error) => failed = Some(telling(failed, error)),
            },
            () = sleep(ATTEMPT_DELAY), if !next.is_empty() => {}
        }
    }
}

/// Returns the result of the attempt that ends first, and removes it.
fn first<F: Future>(attempts: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for index in 0..attempts.len() {
        if let Poll::Ready(ended) = attempts[index].as_mut().poll(cx) {
            drop(attempts.remove(index));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

/// Orders addresses so that IPv4 and IPv6 take turns, beginning with the version of the first.
fn taking_turns(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addresses = addresses.peekable();
    let is_first_v6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.partition(|address| address.is_ipv6() == is_first_v6);
    let mut ordered = VecDeque::with_capacity(one.len() + other.len());
    while !(one.is_empty() && other.is_empty()) {
        ordered.extend(one.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

/// Returns the error that says more of the host.
fn telling(first: Option<io::Error>, next: io::Error) -> io::Error {
    match first {
        Some(first) if first.kind() != io::ErrorKind::AddrNotAvailable => first,
        _ => next,
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the host has no address")
}

/// How long an address may be silent before the next one is tried too, as RFC 8305 §5 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a host are tried. More than any host has that means well.
const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use tokio::time::{Instant, timeout};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What an address does.
    #[derive(Clone, Copy)]
    enum Host {
        Answers(u64),
        Refuses(u64),
        Silent,
    }

    /// Returns the port that a race of hosts ends with, or the error, and the milliseconds it took.
    async fn race_of(hosts: &[Host]) -> (Result<u16, String>, u64) {
        let addresses = (0..hosts.len()).map(|port| SocketAddr::from(([10, 0, 0, 1], port as u16)));
        let began = Instant::now();
        let won = race(addresses, async |address| {
            match hosts[usize::from(address.port())] {
                Host::Answers(after) => {
                    sleep(Duration::from_millis(after)).await;
                    Ok(address.port())
                }
                Host::Refuses(after) => {
                    sleep(Duration::from_millis(after)).await;
                    Err(io::Error::other(format!("{} refuses", address.port())))
                }
                Host::Silent => pending().await,
            }
        });
        let won = timeout(Duration::from_secs(60), won)
            .await
            .expect("a race that ends");
        let won = won.map_err(|error| error.to_string());
        (won, began.elapsed().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_addresses_cost_a_quarter_of_a_second_each() {
        use Host::{Answers, Silent};

        assert_eq!(race_of(&[Silent, Answers(7)]).await, (Ok(1), 257));
        assert_eq!(race_of(&[Silent, Silent, Answers(7)]).await, (Ok(2), 507));
        // The first one goes on while the second one is tried.
        assert_eq!(race_of(&[Answers(300), Answers(100)]).await, (Ok(0), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_costs_no_wait() {
        use Host::{Answers, Refuses, Silent};

        assert_eq!(race_of(&[Refuses(3), Answers(7)]).await, (Ok(1), 10));
        assert_eq!(
            race_of(&[Silent, Refuses(3), Answers(7)]).await,
            (Ok(2), 260)
        );
        let all = race_of(&[Refuses(3), Refuses(1)]).await;
        assert_eq!(all, (Err("0 refuses".to_owned()), 4));
        let none = race_of(&[]).await;
        assert_eq!(none, (Err("the host has no address".to_owned()), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_this_machine_lacks_is_the_error_only_if_no_address_has_another() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, TimedOut};

        for (errors, expected) in [
            (
                [AddrNotAvailable, ConnectionRefused, TimedOut],
                ConnectionRefused,
            ),
            ([TimedOut, AddrNotAvailable, ConnectionRefused], TimedOut),
            ([AddrNotAvailable; 3], AddrNotAvailable),
        ] {
            let addresses = (0..3).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
            let outcome: io::Result<()> = race(addresses, async |address| {
                Err(errors[usize::from(address.port())].into())
            })
            .await;
            assert_eq!(outcome.unwrap_err().kind(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_beyond_the_limit_are_not_tried() {
        let tried = RefCell::new(0);
        let addresses = vec![address("10.0.0.1:80"); 1000];
        let outcome: io::Result<()> = race(addresses, async |_| {
            *tried.borrow_mut() += 1;
            Err(io::Error::other("refused"))
        })
        .await;
        outcome.unwrap_err();
        assert_eq!(*tried.borrow(), MAX_ADDRESSES);
    }

    #[test]
    fn the_versions_of_ip_take_turns() {
        let [a, b, c] = ["[::1]:1", "[::2]:1", "[::3]:1"].map(address);
        let [d, e] = ["10.0.0.1:1", "10.0.0.2:1"].map(address);
        let ordered = |addresses: &[SocketAddr]| -> Vec<SocketAddr> {
            taking_turns(addresses.iter().copied()).into()
        };
        assert_eq!(ordered(&[a, b, c, d, e]), [a, d, b, e, c]);
        assert_eq!(ordered(&[d, a, b, c]), [d, a, b, c]);
        assert_eq!(ordered(&[d, e]), [d, e]);
        assert!(ordered(&[]).is_empty());
    }
}
