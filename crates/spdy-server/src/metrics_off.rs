//! Replaces the metrics in a build without the feature `metrics`: nothing is counted.

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode},
};
use spdy_tower::session::{Counters, MemoryUse};

use crate::{
    config::{Config, Transport},
    data_count::Fault,
    info::ConnectionInfo,
    negotiate::Protocol,
    observe::Measured,
    readiness::Readiness,
    tls::Tls,
};

#[derive(Debug)]
pub(crate) enum Metrics {}

#[derive(Debug)]
pub(crate) enum Open {}

impl Metrics {
    pub(crate) fn new(_: &Config, _: Arc<MemoryUse>, _: Option<&Arc<Tls>>) -> Option<Self> {
        None
    }

    pub(crate) fn connection(self: &Arc<Self>) -> Open {
        match **self {}
    }

    pub(crate) fn refused(&self) {
        match *self {}
    }

    pub(crate) fn reload_failed(&self) {
        match *self {}
    }

    pub(crate) fn limit_reached(&self) {
        match *self {}
    }

    pub(crate) fn handshake_failed(&self, _: Transport) {
        match *self {}
    }

    pub(crate) fn session(&self, _: Protocol) -> Open {
        match *self {}
    }

    pub(crate) fn request(&self, _: Protocol) -> Open {
        match *self {}
    }

    pub(crate) fn frames(&self) -> &Arc<Counters> {
        match *self {}
    }

    pub(crate) fn malformed(&self, _: Protocol, _: StatusCode) {
        match *self {}
    }

    pub(crate) fn told(&self, _: Fault) {
        match *self {}
    }

    pub(crate) fn measured(&self, _: &ConnectionInfo, _: &Method, _: Measured) {
        match *self {}
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn add_upstreams(&self, _: crate::app::Upstreams) {
        match *self {}
    }

    pub(crate) fn drain(&self) {
        match *self {}
    }
}

pub(crate) fn pages(metrics: Arc<Metrics>, _: Option<Readiness>) -> Router {
    match *metrics {}
}
