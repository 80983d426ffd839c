//! Settings that the control plane says, while connections are open.

use http::StatusCode;
use tulle_xds::model::{ClientCert, Knob};

use super::{
    ends::{echo, http1, post},
    harness::{CART, Pair, Told, WEB},
};

const CLIENT_CERT: &str = "x-forwarded-client-cert";

#[tokio::test]
async fn a_client_cert_is_set_appended_or_off_and_a_strangers_is_always_removed() {
    let (application, saw) = echo().await;
    let pair = Pair::new(&[application], Told::default()).await;
    let mut meshed = http1(pair.outbound).await;
    let mut stranger = http1(pair.inbound[0]).await;
    let caller = format!("By={CART};URI={WEB}");
    for (how, word) in
        [ClientCert::Set, ClientCert::Append, ClientCert::Remove].into_iter().zip(0..)
    {
        pair.server.told_otherwise(|workload| {
            workload.knobs = [(Knob::ForwardedClientCert, word)].into();
        });
        for (client, expected) in [
            (
                &mut meshed,
                match how {
                    ClientCert::Set => Some(caller.clone()),
                    ClientCert::Append => Some(format!("By=a;URI=b,By=c;URI=d,{caller}")),
                    ClientCert::Remove => None,
                },
            ),
            (&mut stranger, None),
        ] {
            let mut request = post("hello");
            for before in ["By=a;URI=b", "By=c;URI=d"] {
                request.headers_mut().append(CLIENT_CERT, before.parse().unwrap());
            }
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let heads = std::mem::take(&mut *saw.lock());
            let all = heads[0].headers.get_all(CLIENT_CERT).iter();
            let found: Vec<_> = all.map(|value| value.to_str().unwrap()).collect();
            assert_eq!(found, expected.as_deref().into_iter().collect::<Vec<_>>(), "{how:?}");
        }
    }
}

#[tokio::test]
async fn a_bound_that_is_told_holds_from_the_next_request_on() {
    let (application, _saw) = echo().await;
    let pair = Pair::new(&[application], Told::default()).await;
    for (most, status) in
        [(5, StatusCode::OK), (4, StatusCode::PAYLOAD_TOO_LARGE), (0, StatusCode::OK)]
    {
        pair.client.told_otherwise(|workload| {
            workload.knobs = [(Knob::MaxBodyBytes, most)].into();
        });
        let response = http1(pair.outbound).await.send_request(post("hello")).await.unwrap();
        assert_eq!(response.status(), status, "{most}");
    }
}
