//go:build linux

package proxies

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A deployment is a program with one of its documented configurations, and the preset with
// which Certbound reads what it sends.
type deployment struct {
	name    string
	preset  string
	hops    int // trusted_hops of xfcc
	program program
	field   string // the header field with the certificate
	// write is the form of the field; an attacker knows it, too.
	write func(*x509.Certificate) string
	chain chainPolicy
	// fullHandshakes says that the proxy resumes no session of a client that it has asked
	// for a certificate, which is safe as well (RFC 9440, Section 3.3).
	fullHandshakes bool
	// verify has the edits with which the proxy verifies, too.
	verify []string
	// trailers says that the proxy passes trailers on, perhaps only announced ones, where no source looks.
	trailers bool
}

// A chainPolicy says whether a hop forwards what the client sent after its leaf.
type chainPolicy int

const (
	leafOnly  chainPolicy = iota
	chainOnce             // but not on a resumed session
	chainKept
)

// certificateFields are all fields that some configuration uses.
var certificateFields = []string{"Client-Cert", "Client-Cert-Chain", "X-SSL-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Client-Cert"}

func escapedPEM(c *x509.Certificate) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

func foldedPEM(c *x509.Certificate) string {
	return strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), "\n", " ")
}

func base64DER(c *x509.Certificate) string { return base64.StdEncoding.EncodeToString(c.Raw) }

// xfccElement is what Envoy itself writes.
func xfccElement(c *x509.Certificate) string {
	return fmt.Sprintf(`By=spiffe://agora.example/edge;Hash=%x;Cert="%s"`, sha256.Sum256(c.Raw), escapedPEM(c))
}

func byteSequence(c *x509.Certificate) string { return ":" + base64DER(c) + ":" }

func nginx(files ...string) program {
	return program{
		name: "nginx", path: installed("nginx"), version: []string{"-v"}, number: regexp.MustCompile(`nginx/(\S+)`),
		files: files, ports: []string{"listen 443 ", "listen 127.0.0.1:{443} ", "listen 80;", "listen 127.0.0.1:{80};"},
		// The documented file belongs into "http"; this is Debian's around it, without root.
		also: [2]string{"test-nginx.conf", `
daemon off;
pid /etc/certbound/proxy/nginx.pid;
error_log stderr warn;
events { }
http {
	access_log off;
	client_body_temp_path /etc/certbound/proxy/tmp;
	proxy_temp_path /etc/certbound/proxy/tmp;
	fastcgi_temp_path /etc/certbound/proxy/tmp;
	uwsgi_temp_path /etc/certbound/proxy/tmp;
	scgi_temp_path /etc/certbound/proxy/tmp;
	include /etc/certbound/proxy/` + files[0] + `;
}
`},
		arguments: func(dir string) []string {
			return []string{"-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "test-nginx.conf")}
		},
	}
}

func haproxy(files ...string) program {
	return program{
		name: "haproxy", path: installed("haproxy"), version: []string{"-v"}, number: regexp.MustCompile(`version (\S+)`),
		files: files, ports: []string{"bind :443 ", "bind 127.0.0.1:{443} ", "bind :80\n", "bind 127.0.0.1:{80}\n"},
		arguments: func(dir string) []string { return []string{"-db", "-f", filepath.Join(dir, files[0])} },
	}
}

func apache(files ...string) program {
	return program{
		name: "apache", path: installed("apache2"), version: []string{"-v"}, number: regexp.MustCompile(`Apache/(\S+)`),
		files: files, ports: []string{"*:443>", "127.0.0.1:{443}>", "*:80>", "127.0.0.1:{80}>"},
		// Debian's apache2.conf, ports.conf and the modules that the file names.
		also: [2]string{"test-apache.conf", `
ServerRoot /etc/certbound/proxy/
ServerName localhost
PidFile /etc/certbound/proxy/apache.pid
DefaultRuntimeDir /etc/certbound/proxy/
ErrorLog /dev/stderr
LogLevel warn
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule setenvif_module /usr/lib/apache2/modules/mod_setenvif.so
LoadModule macro_module /usr/lib/apache2/modules/mod_macro.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
SSLSessionCache shmcb:/etc/certbound/proxy/scache(512000)
User nobody
Group nogroup
Listen 127.0.0.1:{443}
Listen 127.0.0.1:{80}
Include /etc/certbound/proxy/` + files[0] + `
`},
		arguments: func(dir string) []string {
			return []string{"-f", filepath.Join(dir, "test-apache.conf"), "-DFOREGROUND"}
		},
	}
}

func caddy(path func(*testing.T) string, files ...string) program {
	return program{
		name: "caddy", path: path, version: []string{"version"}, number: regexp.MustCompile(`v?(\d\S+)`),
		files: files, ports: []string{"https_port 443", "https_port {443}\n\tdefault_bind 127.0.0.1", "http_port 80", "http_port {80}"},
		arguments: func(dir string) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", filepath.Join(dir, files[0])}
		},
	}
}

func traefik(files ...string) program {
	return program{
		name: "traefik", path: built("traefik"), version: []string{"version"}, number: regexp.MustCompile(`Version: +(\S+)`),
		files: files, ports: []string{`address: ":443"`, `address: "127.0.0.1:{443}"`, `address: ":80"`, `address: "127.0.0.1:{80}"`},
		arguments: func(dir string) []string { return []string{"--configFile=" + filepath.Join(dir, files[0])} },
	}
}

func envoy(files ...string) program {
	return program{
		name: "envoy", path: fetched, version: []string{"--version"}, number: regexp.MustCompile(`version: [0-9a-f]+/([^/]+)/`),
		files: files, ports: []string{
			"address: 0.0.0.0, port_value: 443}", "address: 127.0.0.1, port_value: {443}}",
			"address: 0.0.0.0, port_value: 80}", "address: 127.0.0.1, port_value: {80}}",
		},
		address: func(at string) string {
			host, port, _ := net.SplitHostPort(at)
			return "address: " + host + ", port_value: " + port
		},
		// Hot restart shares memory by a number that is the same for all of one machine.
		arguments: func(dir string) []string {
			return []string{"--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c", filepath.Join(dir, files[0])}
		},
	}
}

// deployments are all that is documented as run.
func deployments() []deployment {
	const own = "X-SSL-Client-Cert"
	const ca = "/etc/certbound/proxy/client-ca.pem"
	verify := map[string][]string{
		"nginx":   {"ssl_verify_client optional_no_ca;", "ssl_verify_client optional;\n    ssl_client_certificate " + ca + ";"},
		"haproxy": {" ca-ignore-err all crt-ignore-err all", ""},
		"apache":  {"SSLVerifyClient optional_no_ca", "SSLVerifyClient optional\n        SSLCACertificateFile " + ca},
		"caddy":   {"mode request", "mode verify_if_given\n\t\t\ttrusted_ca_cert_file " + ca},
		"envoy":   {"trust_chain_verification: ACCEPT_UNTRUSTED", "trusted_ca: {filename: " + ca + "}"},
		"traefik": {"clientAuthType: RequestClientCert", "clientAuthType: VerifyClientCertIfGiven\n        caFiles: [" + ca + "]"},
	}
	crtList := "haproxy-crt-list.txt"
	list := []deployment{
		{name: "envoy", preset: "xfcc", hops: 1, program: envoy("envoy-xfcc.yaml"), field: "X-Forwarded-Client-Cert", write: xfccElement, chain: chainKept},

		{name: "nginx", preset: "nginx", program: nginx("nginx.conf"), field: own, write: escapedPEM},
		{name: "haproxy", preset: "haproxy", program: haproxy("haproxy.cfg", crtList), field: own, write: base64DER, chain: chainOnce, trailers: true},
		{name: "apache", preset: "apache", program: apache("apache.conf"), field: own, write: foldedPEM, chain: chainOnce},
		{name: "caddy", preset: "caddy", program: caddy(built("caddy"), "Caddyfile"), field: own, write: base64DER, trailers: true, fullHandshakes: true},
		{name: "caddy-debian", preset: "caddy", program: caddy(installed("caddy"), "Caddyfile"), field: own, write: base64DER},
		{name: "traefik", preset: "traefik", program: traefik("traefik.yaml", "traefik-dynamic.yaml"), field: "X-Forwarded-Tls-Client-Cert", write: base64DER, chain: chainKept},

		{name: "nginx-rfc9440", preset: "rfc9440", program: nginx("nginx-rfc9440.conf"), field: "Client-Cert", write: byteSequence},
		{name: "haproxy-rfc9440", preset: "rfc9440", program: haproxy("haproxy-rfc9440.cfg", crtList), field: "Client-Cert", write: byteSequence, trailers: true},
		{name: "apache-rfc9440", preset: "rfc9440", program: apache("apache-rfc9440.conf"), field: "Client-Cert", write: byteSequence, chain: chainOnce},
		{name: "caddy-rfc9440", preset: "rfc9440", program: caddy(built("caddy"), "Caddyfile-rfc9440"), field: "Client-Cert", write: byteSequence, trailers: true, fullHandshakes: true},
		{name: "caddy-debian-rfc9440", preset: "rfc9440", program: caddy(installed("caddy"), "Caddyfile-rfc9440"), field: "Client-Cert", write: byteSequence},
	}
	for i := range list {
		list[i].verify = verify[list[i].program.name]
	}
	return list
}
