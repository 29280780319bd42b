//! An engine that misbehaves, for the tests: what it does is what it is told with `--input`.
//!
//! It takes the command line of a real conductor engine and prints in its form. Every run is written into the file that
//! MEAN_ENGINE_LOG names, so that a test can count the starts of each job.

use std::{
    env, fs,
    io::{self, Write},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

fn flag(name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    env::args().find_map(|argument| argument.strip_prefix(&prefix).map(str::to_owned))
}

fn say(bytes: &[u8]) {
    // A reader that is gone is what some tests are about.
    let _gone = io::stdout().write_all(bytes).and_then(|()| io::stdout().flush());
}

fn outcome(status: &str, output: &str) {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    let output: String = output.chars().map(escaped).collect();
    say(format!("{{\"status\": \"{status}\", \"output\": \"{output}\", \"metadata\": {{\"agent_id\": \"Mean_Agent\"}}, \"history_entry\": null}}\n⚡ done\n").as_bytes());
}

async fn for_ever() {
    std::future::pending::<()>().await;
}

/// Keeps a handler that does nothing: TERM is ignored from here on.
fn ignore_term() -> impl Drop {
    struct Ignored(#[allow(dead_code)] tokio::signal::unix::Signal);
    impl Drop for Ignored {
        fn drop(&mut self) {}
    }
    Ignored(signal(SignalKind::terminate()).expect("signals can be handled"))
}

#[allow(clippy::disallowed_methods, clippy::zombie_processes)] // a fixture of the outside world
fn spawn_self(mode: &str, keeps_output: bool, clears_environment: bool) {
    let mut command = Command::new(env::current_exe().expect("the engine knows its file"));
    command.arg(format!("--as={mode}")).stdin(Stdio::null());
    if !keeps_output {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    if clears_environment {
        command.env_clear();
    }
    command.spawn().expect("a grandchild can be started");
}

/// What the grandchildren do.
async fn descendant(mode: &str) -> ExitCode {
    match mode {
        "stubborn" => {
            let _ignored = ignore_term();
            for_ever().await;
        }
        "escape" => {
            let _ignored = ignore_term();
            rustix::process::setsid().expect("a session of its own");
            for_ever().await;
        }
        // The middle of a double fork: its child is orphaned at once.
        "daemon" => {
            rustix::process::setsid().expect("a session of its own");
            spawn_self("escape", false, false);
        }
        "nameless-daemon" => {
            rustix::process::setsid().expect("a session of its own");
            spawn_self("escape", false, true);
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// An agent as the engine's own tools scaffold one.
fn create_agent(agent_id: &str) {
    let directory = std::path::Path::new(".conductor_workspace/agents").join(agent_id);
    fs::create_dir_all(&directory).expect("an agent's directory");
    fs::write(directory.join("definition.yaml"), format!("name: {agent_id}\nversion: \"1\"\n"))
        .expect("a definition");
}

/// The repositories that git would find from here, or from behind any of what stands here.
fn repositories() -> Vec<String> {
    let here = env::current_dir().expect("a directory");
    let entries = fs::read_dir(&here).expect("it can be read").flatten().map(|entry| entry.path());
    let places = entries.filter_map(|path| path.canonicalize().ok()).chain([here]);
    let above = places.flat_map(|place| place.ancestors().map(|path| path.join(".git")).collect::<Vec<_>>());
    above.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

/// The real engine's rule: what comes sooner after the last input is forgotten.
const RATE_LIMIT: Duration = Duration::from_millis(1000);

/// The real engine's REPL: it inlines files, obeys its own words, and forgets what comes too soon.
async fn strict_talk() -> ExitCode {
    let rule = "-".repeat(40);
    let mut last: Option<std::time::Instant> = None;
    loop {
        say("[Mean_Agent]> ".as_bytes());
        let mut line = String::new();
        if io::stdin().read_line(&mut line).is_ok_and(|read| read == 0) {
            return ExitCode::SUCCESS;
        }
        let words = line.trim();
        match words {
            "sair" => return ExitCode::SUCCESS,
            "clear" | "history" | "prompt save" => {
                say(format!("🤖 Resposta:\n{rule}\nOBEYED {words}\n{rule}\n").as_bytes());
                continue;
            }
            _ => {}
        }
        if last.is_some_and(|last| last.elapsed() < RATE_LIMIT) {
            let left =
                last.map_or(0.0, |last| (RATE_LIMIT.saturating_sub(last.elapsed())).as_secs_f64() + 0.1);
            say(format!("⚡ RATE LIMIT: Aguarde {left:.1}s - interações muito rápidas não são humanas\n")
                .as_bytes());
            continue;
        }
        last = Some(std::time::Instant::now());
        let inlined: Vec<String> = words
            .split_whitespace()
            .map(|word| {
                word.strip_prefix('@')
                    .and_then(|path| fs::read_to_string(path).ok())
                    .unwrap_or(word.to_owned())
            })
            .collect();
        say(format!(
            "🤔 Processando...\n{{\"message\": \"log\"}}\n   🤖 Resposta:\n{rule}\nECHO[{}]\n{rule}\n",
            inlined.join(" ")
        )
        .as_bytes());
    }
}

/// A dialogue as the real engine leads one: a banner, a prompt without a line break, `sair` ends it. With "deaf" it
/// never reads its input, with "hang" it hangs at the second input.
async fn talk() -> ExitCode {
    say("🎮 Modo interativo ativo\n".as_bytes());
    let mut line = String::new();
    for turn in 1.. {
        say(format!("[{turn}] você> ").as_bytes());
        line.clear();
        if io::stdin().read_line(&mut line).is_ok_and(|read| read == 0) {
            say("\n👋 fim\n".as_bytes());
            break;
        }
        match line.trim() {
            "sair" => break,
            "die" => return ExitCode::from(3),
            "deaf" if turn == 1 => for_ever().await,
            "strict" if turn == 1 => {
                let rule = "-".repeat(40);
                say(format!("🤖 Resposta:\n{rule}\nstrict\n{rule}\n").as_bytes());
                return strict_talk().await;
            }
            words => {
                let rule = "-".repeat(40);
                say(format!("🤖 Resposta:\n{rule}\nouvi: {words}\n{rule}\n").as_bytes());
            }
        }
    }
    ExitCode::SUCCESS
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(mode) = flag("--as") {
        return descendant(&mode).await;
    }
    if env::args().any(|argument| argument == "--validate") {
        say("📊 Agentes encontrados: 1\n============\n📊 RESUMO DA VALIDAÇÃO\n✅ Configuração totalmente válida!\n".as_bytes());
        return ExitCode::SUCCESS;
    }
    if env::args().any(|argument| argument == "--list") {
        say("🤖 Agentes disponíveis em mongodb:\n====\n 1. Kept_Agent\n     Nome: Kept\n     Capacidades: a, b, c...\n     Tags: meta\n\n📊 Total: 1 agentes encontrados\n".as_bytes());
        return ExitCode::SUCCESS;
    }
    if let Some(agent_id) = flag("--info") {
        let said = match agent_id.as_str() {
            "Kept_Agent" => {
                "📋 INFORMAÇÕES BÁSICAS\n   ID: Kept_Agent\n   Nome: Kept\n   Versão: 1\n   Autor: A\n   Descrição: is kept\n"
            }
            _ => "❌ Agente não encontrado em x\n💡 Agentes similares disponíveis: Kept_Agent\n",
        };
        say(said.as_bytes());
        return ExitCode::SUCCESS;
    }
    if let Some(agent_id) = flag("--install").filter(|name| name != "list") {
        create_agent(&agent_id);
        say(format!("✅ Agente '{agent_id}' instalado da categoria 'x'\n").as_bytes());
        return ExitCode::SUCCESS;
    }
    let input = flag("--input").unwrap_or_default();
    if let (Ok(job_id), Ok(log)) = (env::var("CONDUCTOR_JOB_ID"), env::var("MEAN_ENGINE_LOG")) {
        let log = fs::OpenOptions::new().create(true).append(true).open(log);
        log.and_then(|mut log| log.write_all(format!("{job_id}\n").as_bytes()))
            .expect("starts can be logged");
    }
    if env::args().any(|argument| argument == "--interactive") {
        return talk().await;
    }
    say(format!("🤖 Executando Mean_Agent\n📝 Input: {input}\n{{\"message\": \"log\"}}\n").as_bytes());
    let (mode, rest) = input.split_once([' ', '\n']).unwrap_or((&input, ""));
    let seconds = || Duration::from_millis(rest.parse().unwrap_or(0));
    match mode {
        "ok" => outcome("success", "fine"),
        "sleep" => {
            tokio::time::sleep(seconds()).await;
            outcome("success", "slept");
        }
        "two-parts" => {
            say("first part\n".as_bytes());
            // Goes on when the test says so, by making the file.
            while !std::path::Path::new(rest).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            outcome("success", "second part");
        }
        "hang" => for_ever().await,
        "ignore-term" => {
            let _ignored = ignore_term();
            say(b"ignoring\n");
            for_ever().await;
        }
        "stubborn-grandchild" => {
            spawn_self("stubborn", true, false);
            say(b"spawned\n");
            for_ever().await;
        }
        "left-grandchild" => {
            spawn_self("stubborn", true, false);
            outcome("success", "left one behind");
        }
        "escaped-grandchild" => {
            spawn_self("escape", false, false);
            say(b"spawned\n");
            for_ever().await;
        }
        "daemon" => {
            spawn_self("daemon", false, false);
            tokio::time::sleep(Duration::from_millis(100)).await;
            outcome("success", "left a daemon behind");
        }
        "nameless-daemon" => {
            spawn_self("nameless-daemon", false, true);
            tokio::time::sleep(Duration::from_millis(100)).await;
            outcome("success", "left a nameless daemon behind");
        }
        // As "flood", once the test says so by making the file.
        "flood" | "flood-when" => {
            let (rest, file) = rest.split_once(' ').unwrap_or((rest, ""));
            if !file.is_empty() {
                say(b"waiting\n");
            }
            while !file.is_empty() && !std::path::Path::new(file).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let line = [b'x'; 64 * 1024 - 1];
            let mut block = line.to_vec();
            block.push(b'\n');
            for _ in 0..rest.parse::<u64>().unwrap_or(1) * 16 {
                if io::stdout().write_all(&block).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            outcome("success", "flooded");
        }
        // Lines of many lengths and kinds, one at a time.
        "drip" => {
            let (count, pause) = rest.split_once(' ').unwrap_or((rest, "0"));
            let pause = Duration::from_millis(pause.parse().unwrap_or(0));
            let kinds = ["é€𝄞 ", "data: x\r", "id: 9\r\n", "\u{2028}", "\0\u{1b}[2J", "plain words "];
            for number in 0..count.parse::<usize>().unwrap_or(1) {
                let kind = kinds[number % kinds.len()];
                say(format!("{number} {}\n", kind.repeat(number * 7919 % 40)).as_bytes());
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            outcome("success", "dripped");
        }
        // A line now and then, until the test makes the file.
        "drip-until" => {
            for number in 0.. {
                if std::path::Path::new(rest).exists() {
                    break;
                }
                say(format!("{number}\n").as_bytes());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome("success", "stopped");
        }
        "no-newline" => {
            let block = [b'y'; 1024 * 1024];
            for _ in 0..100 {
                if io::stdout().write_all(&block).is_err() {
                    return ExitCode::FAILURE;
                }
            }
        }
        "bytes" => {
            say(b"a\0b\xff\xfe c\r\ndata: forged\n\n\x1b[31mred\xe2\x9c");
            say(b"\x85\n");
            outcome("success", "bytes");
        }
        "title" => say(
            b"\x1b]0;title\x07\x1b[32m{\"status\":\"success\",\"output\":\"ok\",\"metadata\":{}}\x1b[0m\n",
        ),
        "nan" => {
            say(b"{\"status\": \"success\", \"output\": \"a\\udcffb\", \"metadata\": {\"score\": NaN}}\n")
        }
        "over-lines" => say(b"{\n  \"status\": \"success\",\n  \"output\": \"ok\",\n  \"metadata\": {}\n}\n"),
        "say-raw" => say(format!("{rest}\n").as_bytes()),
        "broken-outcome" => say(b"{\"status\": \"success\", \"output\": ok}\n"),
        // An answer stands twice on its line.
        "long" => {
            let text = "palavra ".repeat(rest.parse::<usize>().unwrap_or(0) / 8);
            say(format!("{{\"status\": \"success\", \"output\": \"{text}\", \"metadata\": {{}}, \"history_entry\": {{\"ai_response\": \"{text}\"}}}}\n⚡ done\n").as_bytes());
        }
        "linger" => {
            outcome("success", "said it");
            for_ever().await;
        }
        "traceback" => {
            let text = b"Traceback (most recent call last):\n  File \"conductor\", line 3, in <module>\nKeyError: 'ANTHROPIC_API_KEY'\n";
            io::stderr().write_all(text).expect("stderr");
            return ExitCode::FAILURE;
        }
        "create" => {
            create_agent(rest);
            outcome("success", "created");
        }
        "prompts" => {
            fs::create_dir_all("prompts_log").expect("a directory");
            fs::write(format!("prompts_log/{rest}_xml.txt"), "the whole prompt").expect("a prompt");
            let count = fs::read_dir("prompts_log").expect("it can be read").count();
            outcome("success", &count.to_string());
        }
        "git" => outcome("success", &format!("{:?}", repositories())),
        "become-a-link" => {
            let own = ".conductor_workspace/agents/Mean_Agent";
            fs::remove_dir_all(own).expect("its own directory");
            std::os::unix::fs::symlink(rest, own).expect("a link");
            outcome("success", "gone");
        }
        "json-error" => outcome("error", "rate limit exceeded"),
        "no-outcome" => say("❌ Agente 'Mean_Agent' não encontrado\n".as_bytes()),
        "signal" => {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::ABORT).expect("a signal to oneself");
            for_ever().await;
        }
        "close-stdout" => {
            say(b"closing\n");
            // The only way to close it without unsafe code: put something else in its place.
            let null = fs::File::create("/dev/null").expect("/dev/null");
            rustix::stdio::dup2_stdout(&null).expect("stdout can be replaced");
            rustix::stdio::dup2_stderr(&null).expect("stderr can be replaced");
            tokio::time::sleep(seconds()).await;
        }
        "status" => return ExitCode::from(rest.parse().unwrap_or(1)),
        "pid" => {
            say(format!("pid {}\n", std::process::id()).as_bytes());
            for_ever().await;
        }
        "environment" => {
            let names: Vec<String> = env::vars().map(|(name, _)| name).collect();
            outcome("success", &names.join(" "));
        }
        "flags" => {
            let flags: Vec<String> = env::args().skip(1).collect();
            outcome("success", &flags.join(" "));
        }
        "cwd" => outcome("success", &env::current_dir().expect("a directory").display().to_string()),
        "remember" => {
            let log = ".conductor_workspace/agents/Mean_Agent/history.log";
            let before = fs::read_to_string(log).unwrap_or_default();
            fs::write(log, format!("{before}{rest}\n")).expect("the history can be written");
            outcome("success", &before);
        }
        _ => outcome("success", &input),
    }
    ExitCode::SUCCESS
}
