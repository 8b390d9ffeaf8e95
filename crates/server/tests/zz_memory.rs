#![allow(missing_docs)]
use fettle_testkit::TestServer;
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
#[test]
fn memory() {
    let server = TestServer::start();
    let rt = tokio::runtime::Runtime::new().unwrap();
    let (cert, key) = rt.block_on(async { let a = server.administrator().await; server.enrol(&a, Default::default()).await.certificate });
    std::fs::write("/tmp/zz-cert.pem", format!("{cert}{key}")).unwrap();
    let n = 4000;
    let path = std::env::var_os("ZZPATH").map(|p| p.into_string().unwrap()).unwrap_or("/healthz".into());
    for round in 0..2 {
    let before = rss();
    let mut child = std::process::Command::new("python3").arg("/tmp/zz.py").arg(server.announcement.listen.port().to_string()).arg(n.to_string()).arg(&path)
        .stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = rss();
    println!("round {round} {line} before {before} after {after} per connection {} bytes", (after - before) * 1024 / n);
    drop(child.stdin.take());
    child.wait().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    println!("after close {}", rss());
    }
}
