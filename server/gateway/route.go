package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

// A Route says what is asked of the requests for some hosts and paths. It must not be
// changed while it is in use.
type Route struct {
	// Name is for logs and metrics. Required; several routes may share one.
	Name string
	// Hosts are the host names, without port: exactly, or "*.example.com" for any name
	// with one more label or several. If empty, all hosts that no other route names.
	Hosts []string
	// Path is where the route begins, escaped as in a URL: "/orders" is /orders and all
	// below it, not /orders2. If empty, "/".
	Path string
	// Methods are the methods that pass; HEAD passes with GET. If empty, all but
	// CONNECT. Another method is refused, whatever a route with a shorter path says.
	Methods []string

	// Verifier judges token and certificate. Required, unless Anonymous.
	Verifier *resourceserver.Verifier
	// Scopes are needed, all of them.
	Scopes []string
	// Anonymous lets requests pass without a token. One that is sent is not looked at.
	Anonymous bool
	// CheckCertificate, if set, judges the certificate of a request, if it comes with
	// one. An error is a refusal.
	CheckCertificate func(ctx context.Context, p *certsource.Presented) error
	// CertificateAsOf, if set, returns the moment of which it is known that the certificates
	// that CheckCertificate accepts were not revoked, or zero: for records.
	CertificateAsOf func() time.Time
	// Identity says what goes upstream about the caller. If nil, nothing.
	Identity *Identity
}

// rule returns what is asked of a request for it to get to the route, for records.
func (r *Route) rule() string {
	hosts := cmp.Or(strings.Join(r.Hosts, ","), "*")
	return strings.TrimSpace(clip(hosts + cmp.Or(r.Path, "/") + " " + strings.Join(r.Methods, ",")))
}

// A router finds the route of a request. The most specific host decides: its name, then
// the longest wildcard, then the routes for all hosts. Within it the longest path decides,
// and within that the method. There is no second try further up, so that a route for fewer
// requests never opens what another one closes.
type router struct {
	exact    map[string]*table
	wildcard map[string]*table // by what follows the star: ".example.com"
	any      *table
}

// A table holds the routes of one host by path, without a trailing slash.
type table struct {
	paths map[string][]*Route
	depth int // the most slashes in a path
}

func newRouter(routes []*Route) (*router, error) {
	r := &router{exact: map[string]*table{}, wildcard: map[string]*table{}}
	var faults []error
	for i, route := range routes {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("gateway: route %d (%s): "+format, append([]any{i, route.Name}, args...)...))
		}
		path, err := NormalPath(cmp.Or(route.Path, "/"))
		if err != nil {
			fault("Path: %w", err)
			continue
		}
		path = strings.TrimSuffix(path, "/")
		for _, m := range route.Methods {
			if m == "" || strings.ToUpper(m) != m || m == "CONNECT" {
				fault("Methods: expected a method such as GET, found %q", m)
			}
		}
		var tables []*table
		if len(route.Hosts) == 0 {
			if r.any == nil {
				r.any = newTable()
			}
			tables = append(tables, r.any)
		}
		for _, host := range route.Hosts {
			t := r.tableFor(host)
			if t == nil {
				fault("Hosts: expected a name without port, or *. and a name, found %q", host)
				continue
			}
			tables = append(tables, t)
		}
		for _, t := range tables {
			for _, other := range t.paths[path] {
				if overlap(other.Methods, route.Methods) {
					fault("the route %s has the same host, path and method", other.Name)
				}
			}
			t.paths[path] = append(t.paths[path], route)
			t.depth = max(t.depth, strings.Count(path, "/"))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return r, nil
}

func newTable() *table { return &table{paths: map[string][]*Route{}} }

// tableFor returns the table of a host of a route, or nil if it is none.
func (r *router) tableFor(host string) *table {
	tables, prefix := r.exact, ""
	name, star := strings.CutPrefix(host, "*.")
	if star {
		tables, prefix = r.wildcard, "."
	}
	normal, ok := normalHost(name)
	if !ok || strings.ContainsAny(name, "[:") {
		return nil
	}
	normal = prefix + normal
	if tables[normal] == nil {
		tables[normal] = newTable()
	}
	return tables[normal]
}

func overlap(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}

// normalHost returns a host in the form in which it is compared: lower case, without port
// and without a trailing dot. It reports whether it is a host.
func normalHost(host string) (string, bool) {
	if len(host) > 0 && host[0] == '[' {
		literal, port, ok := strings.Cut(host[1:], "]")
		if _, err := netip.ParseAddr(literal); !ok || err != nil || port != "" && port[0] != ':' {
			return "", false
		}
		return strings.ToLower(literal), true
	}
	name, _, _ := strings.Cut(host, ":")
	if strings.Count(host, ":") > 1 {
		return "", false
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 255 {
		return "", false
	}
	upper := false
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return "", false
		}
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, true
}

// find returns the route, or the methods that would have one, or neither.
func (r *router) find(host, path, method string) (route *Route, allow []string) {
	t := r.hostTable(host)
	if t == nil {
		return nil, nil
	}
	routes := t.find(path)
	for _, route := range routes {
		if len(route.Methods) == 0 || slices.Contains(route.Methods, method) || method == "HEAD" && slices.Contains(route.Methods, "GET") {
			return route, nil
		}
		allow = append(allow, route.Methods...)
	}
	return nil, allow
}

func (r *router) hostTable(host string) *table {
	if t, ok := r.exact[host]; ok {
		return t
	}
	if len(r.wildcard) > 0 {
		for i := range len(host) {
			if host[i] == '.' && i > 0 {
				if t, ok := r.wildcard[host[i:]]; ok {
					return t
				}
			}
		}
	}
	return r.any
}

// find returns the routes of the longest path that is path, or above it.
func (t *table) find(path string) []*Route {
	// As deep as a route can be, and no deeper: a stranger's path has thousands of slashes.
	end, slashes := len(path), 0
	for i := range len(path) {
		if path[i] == '/' {
			if slashes++; slashes > t.depth {
				end = i
				break
			}
		}
	}
	for path = strings.TrimSuffix(path[:end], "/"); ; {
		if routes, ok := t.paths[path]; ok {
			return routes
		}
		if path == "" {
			return nil
		}
		path = path[:strings.LastIndexByte(path, '/')]
	}
}
