//! Content negotiation between the two media types of GraphQL over HTTP, and the formats of a
//! stream of results (RFC 9110, section 12.5.1).

use async_graphql::http::is_accept_multipart_mixed;
use axum::http::{HeaderMap, header};

/// The media type of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/graphql-response+json`: the HTTP status says whether the request was executed.
    GraphqlResponse,
    /// `application/json`: for older clients, which expect 200 for every well-formed request.
    Json,
}

impl MediaType {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    fn essence(self) -> (&'static str, &'static str) {
        match self {
            Self::GraphqlResponse => ("application", "graphql-response+json"),
            Self::Json => ("application", "json"),
        }
    }
}

fn ranges(headers: &HeaderMap) -> Vec<Range> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect()
}

/// The best acceptable type, `application/json` without a preference, or `None` if neither type is
/// acceptable.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return headers.get(header::ACCEPT).is_none().then_some(MediaType::Json);
    }
    let quality = |media: MediaType| {
        let fitting = ranges.iter().filter(|range| range.covers(media));
        fitting.max_by_key(|range| range.precision).map_or(0, |range| range.quality)
    };
    let (modern, older) = (quality(MediaType::GraphqlResponse), quality(MediaType::Json));
    match (modern, older) {
        (0, 0) => None,
        (modern, older) if modern > older => Some(MediaType::GraphqlResponse),
        (modern, older) if modern == older && named(&ranges) => Some(MediaType::GraphqlResponse),
        _ => Some(MediaType::Json),
    }
}

/// The format of a stream of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFormat {
    /// Server-sent events.
    Events,
    /// A multipart response, as Apollo's clients accept it.
    Multipart,
}

/// The format of streams that the client explicitly accepts.
pub(super) fn stream_format(headers: &HeaderMap) -> Option<StreamFormat> {
    let is_stream = |range: &Range| range.kind == "text" && range.subtype == "event-stream";
    if ranges(headers).iter().any(|range| is_stream(range) && range.quality > 0) {
        return Some(StreamFormat::Events);
    }
    let mut values = headers.get_all(header::ACCEPT).iter();
    let multipart = values.any(|value| value.to_str().is_ok_and(is_accept_multipart_mixed));
    multipart.then_some(StreamFormat::Multipart)
}

/// Whether the client names the newer type. It then prefers that type at equal quality.
fn named(ranges: &[Range]) -> bool {
    ranges.iter().any(|range| range.precision == 2 && range.covers(MediaType::GraphqlResponse))
}

struct Range {
    kind: String,
    subtype: String,
    /// In thousandths.
    quality: u16,
    precision: u8,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1_000;
        for parameter in parts {
            let (name, value) = parameter.split_once('=')?;
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => {
                    let value: f32 = value.trim().parse().ok()?;
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "clamped"
                    )]
                    let thousandths = (value.clamp(0.0, 1.0) * 1_000.0) as u16;
                    quality = thousandths;
                }
                "charset" if !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8") => {
                    return None;
                }
                _ => {}
            }
        }
        let (kind, subtype) = (kind.to_ascii_lowercase(), subtype.to_ascii_lowercase());
        let precision = u8::from(kind != "*") + u8::from(subtype != "*");
        Some(Self { kind, subtype, quality, precision })
    }

    fn covers(&self, media: MediaType) -> bool {
        let (kind, subtype) = media.essence();
        (self.kind == "*" || self.kind == kind) && (self.subtype == "*" || self.subtype == subtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_what_it_likes_best() {
        use MediaType::{GraphqlResponse, Json};
        for (accept, wanted) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("application/graphql-response+json", Some(GraphqlResponse)),
            (
                "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
                Some(GraphqlResponse),
            ),
            ("application/json, application/graphql-response+json", Some(GraphqlResponse)),
            ("application/json;q=1, application/graphql-response+json;q=0.9", Some(Json)),
            ("application/graphql-response+json;q=0, */*", Some(Json)),
            ("text/html, */*;q=0.1", Some(Json)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers), wanted, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Some(Json));
    }

    #[test]
    fn a_stream_needs_the_clients_explicit_consent() {
        use StreamFormat::{Events, Multipart};
        for (accept, format) in [
            ("*/*", None),
            ("text/*, multipart/*", None),
            ("multipart/mixed", None),
            ("text/event-stream;q=0", None),
            ("application/json, text/event-stream", Some(Events)),
            ("multipart/mixed;boundary=graphql;subscriptionSpec=1.0", Some(Multipart)),
            (
                "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\",application/json;q=0.9",
                Some(Multipart),
            ),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(stream_format(&headers), format, "{accept}");
        }
    }
}
