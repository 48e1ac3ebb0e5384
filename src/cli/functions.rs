use std::path::Path;

use hyper::Method;
use serde_json::json;

use super::args::functions::{Functions, List, Remove};
use super::ask;
use super::check;
use super::exit::{Exit, Failure};
use super::http::{Admin, escaped, with_query};
use super::screen::{Hue, Screen, counted};
use super::table::{Grid, field};
use crate::admin::wire::{FunctionBody, FunctionList, FunctionView, RestrictBody};
use crate::daemon::check as offline;
use crate::key::FunctionName;

/// `functions …`
pub(crate) fn functions(admin: impl FnOnce() -> Result<Admin, Failure>, screen: &Screen, verb: Functions) -> Result<Exit, Failure> {
    match verb {
        Functions::List(List { data_dir: Some(data_dir) }) => list_offline(screen, &data_dir),
        Functions::List(List { data_dir: None }) => list(&admin()?, screen),
        Functions::Add(add) => {
            let admin = admin()?.acting_for(add.actor.on_behalf_of.as_deref());
            let body = FunctionBody { name: add.name, restricted: add.restricted };
            let function = admin.send(Method::POST, "/v1/functions", &body, None)?;
            done(screen, &function, "Registered")
        }
        Functions::Restrict(named) => restrict(&admin()?.acting_for(named.actor.on_behalf_of.as_deref()), screen, &named.name, true),
        Functions::Unrestrict(named) => restrict(&admin()?.acting_for(named.actor.on_behalf_of.as_deref()), screen, &named.name, false),
        Functions::Remove(arguments) => remove(&admin()?.acting_for(arguments.actor.on_behalf_of.as_deref()), screen, &arguments),
    }
}

fn path(name: &FunctionName) -> String {
    format!("/v1/functions/{}", escaped(name.as_str()))
}

fn grid(screen: &Screen, functions: &[FunctionView]) -> Grid {
    let mut grid = Grid::new(&["FUNCTION", "RESTRICTED", "REGISTERED"]).at_least("FUNCTION", 20).at_least("REGISTERED", 37);
    for function in functions {
        let restricted = if function.restricted { field("restricted", Hue::Warn) } else { field("-", Hue::Dim) };
        grid.row(vec![function.name.to_string().into(), restricted, screen.moment(function.created_at).into()]);
    }
    grid
}

/// Whether the mode is strict, only the configuration says.
fn list_offline(screen: &Screen, data_dir: &Path) -> Result<Exit, Failure> {
    let functions = offline::functions(data_dir).map_err(|error| check::failure(&error))?;
    screen.show(&json!({ "functions": functions }), || grid(screen, &functions).render(screen))?;
    Ok(Exit::Ok)
}

fn list(admin: &Admin, screen: &Screen) -> Result<Exit, Failure> {
    let list: FunctionList = admin.get("/v1/functions")?;
    screen.show(&list, || {
        let grid = grid(screen, &list.functions);
        let mode = if list.strict {
            "strict mode: a function that is not here is denied"
        } else {
            "strict mode is off: wildcards cover names that are not here"
        };
        match (screen.terminal, grid.is_empty()) {
            (true, true) => format!("No function is registered; {mode}.\nRegister one: doorward functions add NAME\n"),
            (true, false) => format!("{}\n{}\n", grid.render(screen), screen.paint(mode, Hue::Dim)),
            (false, _) => grid.render(screen),
        }
    })?;
    Ok(Exit::Ok)
}

fn restrict(admin: &Admin, screen: &Screen, name: &FunctionName, restricted: bool) -> Result<Exit, Failure> {
    let function = admin.send(Method::PATCH, &path(name), &RestrictBody { restricted }, None)?;
    done(screen, &function, if restricted { "Restricted" } else { "Lifted the restriction of" })
}

fn remove(admin: &Admin, screen: &Screen, arguments: &Remove) -> Result<Exit, Failure> {
    if arguments.with_grants {
        ask::confirm(arguments.yes, &format!("Remove {} and its grants from every key that names it?", arguments.name))?;
    }
    let query = [("with_grants", arguments.with_grants.then(|| "true".to_owned()))];
    let function = admin.act(Method::DELETE, &with_query(&path(&arguments.name), &query), None)?;
    done(screen, &function, "Removed")
}

fn done(screen: &Screen, function: &FunctionView, done: &str) -> Result<Exit, Failure> {
    screen.show(function, || {
        let restricted = if function.restricted { " (restricted)" } else { "" };
        if !screen.terminal {
            return format!("name: {}\nrestricted: {}\n", function.name, function.restricted);
        }
        let mut text = format!("{} {done} {}{restricted}\n", screen.paint("✓", Hue::Good), function.name);
        if !function.keys.is_empty() {
            text.push_str(&format!("  {} lost a grant:\n", counted(function.keys.len() as u64, "key")));
            function.keys.iter().for_each(|id| text.push_str(&format!("    {id}\n")));
        }
        text
    })?;
    Ok(Exit::Ok)
}
