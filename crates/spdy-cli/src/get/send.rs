//! Sends a request: as often as the user allows, and to where redirects lead.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use http::{Method, Request, Response, StatusCode, header::LOCATION};
use spdy_tower::client::ResponseBody;
use tower::{ServiceExt, service_fn};
use tower_http::follow_redirect::{
    FollowRedirect, RequestUri,
    policy::{FilterCredentials, PolicyExt},
};

use super::{
    Facts, Work,
    facts::Head,
    redirects::Redirects,
    retries::{Retries, passing},
    upload::Payload,
};
use crate::{
    connect::Requests,
    failure::{Exit, Failure},
    origin::without_user,
};

impl Work {
    /// Sends a request until there is a response that is no passing failure, and writes it.
    pub(super) async fn fetch(
        &self,
        place: usize,
        requests: &Requests,
        facts: &mut Facts,
    ) -> Result<(), Failure> {
        let start = self.start(place)?;
        let mut retries = Retries::new(&self.get);
        let is_repeatable = self.upload.as_ref().is_none_or(|it| it.once().is_none());
        let response = loop {
            let sent = self.send(place, requests, start, facts).await;
            match passing(&sent, facts) {
                Some((why, asked)) if is_repeatable && retries.left > 0 => {
                    // The server need not send the rest meanwhile.
                    drop(sent);
                    let why = format!("{}: {why}", facts.url);
                    self.again(&mut retries, &why, asked).await;
                }
                _ => break sent?,
            }
        };
        self.receive(place, response, start, facts).await
    }

    /// Sends a request, and follows redirects if the user wants that.
    async fn send(
        &self,
        place: usize,
        requests: &Requests,
        start: u64,
        facts: &mut Facts,
    ) -> Result<Response<ResponseBody>, Failure> {
        let request = self.request(place, start, facts).await?;
        let response = if self.get.location {
            self.follow(requests, request, facts).await?
        } else {
            requests.send(request).await?
        };
        facts.head = Some(Head::of(&response, facts.start));
        Ok(response)
    }

    /// Sends a request, and follows redirects.
    async fn follow(
        &self,
        requests: &Requests,
        request: Request<Payload>,
        facts: &mut Facts,
    ) -> Result<Response<ResponseBody>, Failure> {
        let policy = Redirects {
            upload: self.upload.clone(),
            sent: Arc::clone(&facts.sent),
            count: Arc::clone(&facts.redirects),
            unopened: Arc::default(),
            is_away: false,
        };
        let unopened = Arc::clone(&policy.unopened);
        policy.count.store(0, Ordering::Relaxed);
        let policy = policy.and::<_, Payload, Failure>(FilterCredentials::new());
        let requests = requests.clone();
        let first = request.uri().clone();
        let (heads, start) = (Arc::<Mutex<Vec<_>>>::default(), facts.start);
        let seen = Arc::clone(&heads);
        let once = service_fn(move |request: Request<Payload>| {
            let (requests, seen) = (requests.clone(), Arc::clone(&seen));
            let next = Some(request.uri().clone()).filter(|uri| *uri != first);
            async move {
                let sent = requests.send(request).await;
                let response = sent.map_err(|failure| match next {
                    Some(next) => {
                        let next = without_user(&next.to_string());
                        failure.after(format_args!("redirected to {next}"))
                    }
                    None => failure,
                })?;
                lock(&seen).push(Head::of(&response, start));
                Ok(response)
            }
        });
        let following = FollowRedirect::with_policy(once, policy);
        let response = following.oneshot(request).await?;
        facts.passed = mem::take(&mut lock(&heads));
        // The last one is that of the response.
        facts.passed.pop();
        let effective = response.extensions().get::<RequestUri>();
        facts.effective = effective.map(|uri| uri.0.clone());
        self.check_followed(&response, unopened.get(), &facts.method)?;
        Ok(response)
    }

    /// A redirect is left if it asks for a body that is gone or `unopened`, or leads to no URL.
    fn check_followed<B>(
        &self,
        response: &Response<B>,
        unopened: Option<&Failure>,
        method: &Method,
    ) -> Result<(), Failure> {
        let asks = matches!(response.status().as_u16(), 301..=303 | 307 | 308);
        let Some(location) = response.headers().get(LOCATION).filter(|_| asks) else {
            return Ok(());
        };
        let location = String::from_utf8_lossy(location.as_bytes());
        // After these a GET without a body follows.
        let is_without = match response.status() {
            StatusCode::SEE_OTHER => true,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method == Method::POST,
            _ => false,
        };
        let upload = self.upload.as_ref().filter(|_| !is_without);
        let once = upload.and_then(|upload| upload.once());
        let failure = match (once, unopened) {
            (_, Some(unopened)) => unopened.clone(),
            (Some(what), _) => {
                let message =
                    format!("{what} cannot be sent again: save it to a file, and send that");
                Failure::new(Exit::Local, message)
            }
            _ => Failure::new(Exit::Exchange, "that is no valid URL"),
        };
        let location = without_user(&location);
        Err(failure.after(format_args!("redirect to {location}")))
    }
}

fn lock<T>(data: &Mutex<T>) -> MutexGuard<'_, T> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}
