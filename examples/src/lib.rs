//! Examples of the SPDY crates: see the files beside `src`. Each of them says how to run it.
//!
//! The code of the guide and of the README is compiled as part of this crate.

#![cfg_attr(doctest, doc = include_str!("../../README.md"))]

/// Each page of the guide, so that its code is tested as documentation.
#[cfg(doctest)]
mod guide {
    macro_rules! pages {
        ($($name:ident = $file:literal;)*) => {
            $(
                #[doc = include_str!(concat!("../../docs/guide/src/", $file))]
                mod $name {}
            )*
        };
    }

    pages! {
        index = "index.md";
        why = "why.md";
        supported = "supported.md";
        start_web = "start/web.md";
        start_operator = "start/operator.md";
        start_kubernetes = "start/kubernetes.md";
        start_tools = "start/tools.md";
        tls_loop = "cookbook/tls-loop.md";
        grpc = "cookbook/grpc.md";
        sse = "cookbook/sse.md";
        websocket = "cookbook/websocket.md";
        tunnels = "cookbook/tunnels.md";
        transports = "cookbook/transports.md";
        layers = "cookbook/layers.md";
        testing = "cookbook/testing.md";
        raw_streams = "cookbook/raw-streams.md";
        from_hyper = "from/hyper.md";
        from_h2 = "from/h2.md";
        from_reqwest = "from/reqwest.md";
        from_curl = "from/curl.md";
        from_yamux = "from/yamux.md";
        troubleshooting = "troubleshooting.md";
        operations = "operations.md";
        faq = "faq.md";
    }
}
