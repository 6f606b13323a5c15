//! Transports that wrap another one and change a part of what it does.

/// Defines methods of [`AsyncRead`] and [`AsyncWrite`], or all of [`Fails`], that pass the call on
/// to a field. For `Fails` it can also be what a method returns.
///
/// [`AsyncRead`]: tokio::io::AsyncRead
/// [`AsyncWrite`]: tokio::io::AsyncWrite
/// [`Fails`]: crate::socket::Fails
macro_rules! pass {
    (Fails => $($io:tt)+) => {
        fn failure(&self) -> Option<::std::io::Error> {
            self.$($io)+.failure()
        }

        fn has_ended(&self) -> bool {
            self.$($io)+.has_ended()
        }

        fn is_sent(&self) -> bool {
            self.$($io)+.is_sent()
        }

        fn reset_when_dropped(&self) {
            self.$($io)+.reset_when_dropped();
        }
    };
    ($($method:ident),+ => $io:tt) => {
        $($crate::pass::pass!(@$method $io);)+
    };
    (@poll_read $io:tt) => {
        fn poll_read(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buf: &mut ::tokio::io::ReadBuf<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            ::std::pin::Pin::new(&mut self.get_mut().$io).poll_read(cx, buf)
        }
    };
    (@poll_write $io:tt) => {
        fn poll_write(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buf: &[u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            ::std::pin::Pin::new(&mut self.get_mut().$io).poll_write(cx, buf)
        }
    };
    (@poll_write_vectored $io:tt) => {
        fn poll_write_vectored(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            bufs: &[::std::io::IoSlice<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            ::std::pin::Pin::new(&mut self.get_mut().$io).poll_write_vectored(cx, bufs)
        }
    };
    (@is_write_vectored $io:tt) => {
        fn is_write_vectored(&self) -> bool {
            self.$io.is_write_vectored()
        }
    };
    (@poll_flush $io:tt) => {
        fn poll_flush(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            ::std::pin::Pin::new(&mut self.get_mut().$io).poll_flush(cx)
        }
    };
    (@poll_shutdown $io:tt) => {
        fn poll_shutdown(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            ::std::pin::Pin::new(&mut self.get_mut().$io).poll_shutdown(cx)
        }
    };
}

pub(crate) use pass;
