package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/certbound/certbound/bench/material"
)

func servers() []*server {
	return []*server{
		{name: "floor", command: floor()},
		{name: "floor, GOGC=400", command: floor("GOGC=400")},
		{name: "certbound", command: certbound("proxy")},
		{name: "nginx with Lua", gone: missing("nginx", nginxModules, "ngx_http_lua_module.so"), command: nginx},
		{name: "HAProxy", gone: missing("haproxy", "", ""), command: haproxy},
		{name: "Apache mod_oauth2", gone: missing("apache2", apacheModules, "mod_oauth2.so"), command: apache},
	}
}

// Where Debian has the modules.
const (
	nginxModules  = "/usr/lib/nginx/modules"
	apacheModules = "/usr/lib/apache2/modules"
)

// program finds a program, also where the path of users other than root does not lead.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

func missing(name, folder, module string) func() string {
	return func() string {
		for _, path := range []string{program(name), filepath.Join(folder, module)} {
			if path == "" {
				continue
			}
			if _, err := os.Stat(path); err != nil {
				return "there is no " + path + "; scripts/deps.sh bench installs it"
			}
		}
		return ""
	}
}

func floor(env ...string) func(context.Context, *world) (*exec.Cmd, string, error) {
	return func(ctx context.Context, w *world) (*exec.Cmd, string, error) {
		path, err := w.build(ctx, ".", "./floor")
		if err != nil {
			return nil, "", err
		}
		cmd := exec.CommandContext(ctx, path, "-dir", w.dir)
		cmd.Env = append(append(os.Environ(), "UPSTREAM_URL=http://"+w.upstream), env...)
		return cmd, "", nil
	}
}

// certbound is the binary that people install, with everything on: routes with a scope,
// the caller's identity for the API, the access log and metrics.
func certbound(front string) func(context.Context, *world) (*exec.Cmd, string, error) {
	return func(ctx context.Context, w *world) (*exec.Cmd, string, error) {
		path, err := w.build(ctx, "../../server", "./cmd/certbound")
		if err != nil {
			return nil, "", err
		}
		address, err := freePort()
		if err != nil {
			return nil, "", err
		}
		admin, err := freePort()
		if err != nil {
			return nil, "", err
		}
		listen := fmt.Sprintf("certificate: %s, key: %s", material.ServerFile, material.ServerKeyFile)
		upstream := "upstream: {url: http://" + w.upstream + "}"
		if front == "envoy-grpc" {
			listen = "front: envoy-grpc, source: envoy-peer, insecure_plain_http: true, proxy: {prefixes: [127.0.0.1/32]}"
			upstream = ""
		}
		file := filepath.Join(w.dir, "gateway-"+front+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, `listen: {address: "%s", admin: {address: "%s"}, %s}
tokens: {issuer: https://as.test, jwks_uri: https://%s/jwks, root_cas: [%s]}
identity:
  client_cert: true
  claims: [{claim: client_id, field: X-Client-Id}, {claim: scope, field: X-Scope}]
routes:
  - {name: orders, hosts: [127.0.0.1], path: /orders, methods: [GET], resource: %s, scopes: [%s], %s}
log: {format: json, access: true}
`, address, admin, listen, w.keys, material.CAFile, material.Resource, material.Scope, upstream), 0o600); err != nil {
			return nil, "", err
		}
		return exec.CommandContext(ctx, path, "gateway", "--config", file), address, nil
	}
}

//go:embed peers
var peers embed.FS

// configure writes the configuration of a peer.
func (w *world) configure(name, address, modules string) (string, error) {
	text, err := peers.ReadFile("peers/" + name)
	if err != nil {
		return "", err
	}
	jwk, err := json.Marshal(w.jwk)
	if err != nil {
		return "", err
	}
	user := ""
	if os.Getuid() == 0 { // the workers have to read the keys and write the logs
		user = map[string]string{"nginx.conf": "user root;", "apache.conf": "User nobody\nGroup nogroup"}[name]
	}
	file := filepath.Join(w.dir, name)
	return file, os.WriteFile(file, []byte(strings.NewReplacer(
		"{dir}", w.dir, "{address}", address, "{upstream}", w.upstream, "{modules}", modules,
		"{resource}", material.Resource, "{user}", user, "{jwk}", "\""+strings.ReplaceAll(string(jwk), `"`, `\"`)+"\"",
	).Replace(string(text))), 0o644)
}

func nginx(ctx context.Context, w *world) (*exec.Cmd, string, error) {
	address, err := freePort()
	if err != nil {
		return nil, "", err
	}
	if _, err := w.configure("check.lua", "", ""); err != nil {
		return nil, "", err
	}
	file, err := w.configure("nginx.conf", address, nginxModules)
	return exec.CommandContext(ctx, program("nginx"), "-p", w.dir, "-e", filepath.Join(w.dir, "nginx-error.log"), "-c", file), address, err
}

func haproxy(ctx context.Context, w *world) (*exec.Cmd, string, error) {
	address, err := freePort()
	if err != nil {
		return nil, "", err
	}
	file, err := w.configure("haproxy.cfg", address, "")
	return exec.CommandContext(ctx, program("haproxy"), "-db", "-f", file), address, err
}

func apache(ctx context.Context, w *world) (*exec.Cmd, string, error) {
	address, err := freePort()
	if err != nil {
		return nil, "", err
	}
	file, err := w.configure("apache.conf", address, apacheModules)
	return exec.CommandContext(ctx, program("apache2"), "-f", file, "-DFOREGROUND"), address, err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
