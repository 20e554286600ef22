//! How a file of `gateway.page_dir` is answered: whole, or confirmed when the browser has it already.

use std::hash::{DefaultHasher, Hasher};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use outlast_link::Body;

use crate::Page;

/// The answer to a GET or HEAD of `page`, whose request carried `asked`.
pub(crate) fn respond(page: &Page, asked: &HeaderMap) -> Response<Body> {
    let tag = entity_tag(&page.body);
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|value| *value == tag);
    // hyper itself leaves the body of an answer to HEAD away, and still tells its length.
    let body = if known { Body::default() } else { Body::new(page.body.clone()) };
    let mut response = Response::new(body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(header::ETAG, tag);
    // Asked again each time: the files' names carry no version.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Changes with the content; nobody's safety rests on it.
fn entity_tag(body: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    let tag = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_served_and_then_only_confirmed() {
        let page = Page { content_type: "text/css", body: (&b"p {}"[..]).into() };
        let first = respond(&page, &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/css");
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(respond(&page, &asked).status(), StatusCode::NOT_MODIFIED);
    }
}
