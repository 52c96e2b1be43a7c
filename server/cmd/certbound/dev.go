package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/telemetry"
)

type devFlags struct {
	dir                     string
	port, mtlsPort, apiPort int
	redirects               []string
	once, json              bool
}

func (a *app) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "See it work: a throw-away PKI, a server, a demo API, and a thief",
		Long: `See it work, on a machine that has nothing else. dev makes a throw-away PKI and an
SQLite database in a folder, starts an authorization server on two listeners and a
small demo API, and tells the story: who gets a token, what the token is good for,
and what a thief gets for it, for machines and for a person. Then it prints curl lines
to try, and keeps serving.

Everything listens on this machine only. The folder holds private keys, with mode
0600, and a configuration file for the other commands. Starting again in the same
folder goes on with what is there. Two clients of the FAPI 2.0 Security Profile, and
the file fapi-suite.json, are for FAPI test tools.`,
		Example: `  certbound dev
  certbound dev --once                 # exit code 1 if any outcome is not the expected one
  certbound dev --port 9443 --mtls-port 9444 --api-port 9445
  certbound client list --config certbound-dev/certbound.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for name, port := range map[string]int{"--port": f.port, "--mtls-port": f.mtlsPort, "--api-port": f.apiPort} {
				if port < 0 || port > 65535 {
					return usagef(cmd, "%s: %d is not a port", name, port)
				}
			}
			for _, uri := range f.redirects {
				if u, err := url.Parse(uri); err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Contains(uri, "#") {
					return usagef(cmd, "--fapi-redirect: expected an https URL without fragment, found %q", uri)
				}
			}
			if len(f.redirects) == 0 {
				f.redirects = devRedirects
			}
			return a.dev(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.dir, "dir", "certbound-dev", "`FOLDER` for keys, certificates, configuration and database")
	fs.IntVar(&f.port, "port", 8443, "port of the browser-facing listener; 0 takes a free one")
	fs.IntVar(&f.mtlsPort, "mtls-port", 8444, "port of the mutual-TLS listener")
	fs.IntVar(&f.apiPort, "api-port", 8445, "port of the demo API")
	fs.StringArrayVar(&f.redirects, "fapi-redirect", nil,
		"redirect `URI` of a FAPI test tool, for the clients fapi-1 and fapi-2 (repeatable; default those of the OpenID conformance suite on this machine)")
	fs.BoolVar(&f.once, "once", false, "end after the story")
	fs.BoolVar(&f.json, "json", false, "print the story as one JSON document")
	return cmd
}

// dev runs until a signal, or until the end of the story.
func (a *app) dev(ctx context.Context, f devFlags) error {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer restore()
	context.AfterFunc(ctx, restore) // the second ^C ends the process at once

	// The ports first: the URLs are made of them.
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	var ports []int
	for _, p := range []struct {
		port int
		flag string
	}{{f.port, "--port"}, {f.mtlsPort, "--mtls-port"}, {f.apiPort, "--api-port"}} {
		l, err := listen.Open(net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), p.flag)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}

	folder, err := openDevFolder(f.dir, a.now())
	if err != nil {
		return err
	}
	if err := folder.writeConfig(ports[0], ports[1], ports[2]); err != nil {
		return err
	}
	file, err := config.Load(folder.path("certbound.yaml"))
	if err != nil {
		return err
	}

	// During the story the story tells of refusals; afterwards the log does.
	level := new(slog.LevelVar)
	level.Set(slog.LevelError)
	logger := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	seen := &lastDecision{}
	in, err := newInstance(ctx, file, "dev", logger, seen.observe)
	if err != nil {
		return err
	}
	if err := folder.register(ctx, in.store, in.as.Rules(), a.now(), f.redirects); err != nil {
		return joinClose(err, in)
	}
	if err := folder.addPerson(ctx, in.users, a.now); err != nil {
		return joinClose(err, in)
	}
	api := fmt.Sprintf("https://localhost:%d", ports[2])
	if err := folder.writeSuite(file.Issuer, api); err != nil {
		return joinClose(err, in)
	}
	handler, err := demoAPI(file.Issuer, api, in.otlp.Client("issuer", httpClient(folder.serverCA, nil)), in.logger, observers(in.metrics.ObserverAt(telemetry.EndpointAPI), in.otlp.Observer(), seen.observe))
	if err != nil {
		return joinClose(err, in)
	}
	if err := in.serveAll(listeners[0], listeners[1], nil); err != nil {
		return joinClose(err, in)
	}
	if err := in.serve("api", listeners[2], in.pairs["mtls"], true, handler); err != nil {
		return joinClose(err, in)
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- in.run(serving) }()

	s := &story{folder: folder, issuer: file.Issuer, mtls: file.Listen.MTLS.URL, api: api, seen: seen}
	if err := s.waitReady(serving); err != nil {
		stop()
		return errors.Join(<-ended, err)
	}
	if a.tamper != nil {
		a.tamper(s)
	}
	out := newStoryPrinter(a, f.json)
	out.begin(s)
	s.tell(serving, out.step)
	out.end(s, f.once)
	if f.once {
		stop()
		if err := <-ended; err != nil {
			return err
		}
		if !s.Passed {
			return errSilent
		}
		return nil
	}
	level.Set(slog.LevelInfo)
	return <-ended
}

func joinClose(err error, in *instance) error { return errors.Join(err, in.close()) }

// lastDecision remembers the last refusal, for the operator's side of the story.
type lastDecision struct {
	p atomic.Pointer[decision.Decision]
}

func (l *lastDecision) observe(_ context.Context, d *decision.Decision) { l.p.Store(d) }
func (l *lastDecision) take() *decision.Decision                        { return l.p.Swap(nil) }

// demoAPI is a resource server as an application would be one.
func demoAPI(issuer, resource string, client *http.Client, logger *slog.Logger, observer decision.Observer) (http.Handler, error) {
	v, err := resourceserver.New(resourceserver.Config{
		Resource:   resource,
		Issuer:     issuer,
		Source:     certsource.TLS{},
		HTTPClient: client,
		Observer:   observer,
		Logger:     logger,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(v.MetadataPath(), v.MetadataHandler())
	mux.Handle("GET /hello", v.Middleware("read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "hello %s\n", token.ClientID)
	})))
	mux.Handle("GET "+accountsPath, v.Middleware("accounts")(http.HandlerFunc(serveAccounts)))
	return mux, nil
}

// register puts the clients of the story into the store, or puts them right.
func (d *devFolder) register(ctx context.Context, store authserver.Store, rules authserver.Rules, now time.Time, redirects []string) error {
	batch := &authserver.Client{ID: "batch", Name: "Nightly batch", AuthMethod: "self_signed_tls_client_auth"}
	if err := registerCertificate(batch, d.batch.Cert); err != nil {
		return err
	}
	for _, c := range []*authserver.Client{
		{ID: "billing", Name: "Billing service", AuthMethod: "tls_client_auth", SubjectDN: nameText(d.billing.Cert.RawSubject)},
		batch,
		{ID: "wallet", Name: "Ann's wallet", AuthMethod: authserver.None, Scope: "openid profile email read accounts", RedirectURIs: []string{walletRedirect},
			GrantTypes: []string{authserver.GrantAuthorizationCode, authserver.GrantRefreshToken}},
		fapiClient(&d.fapi1, redirects),
		fapiClient(&d.fapi2, redirects),
	} {
		if c.Scope == "" {
			c.Scope = "read"
		}
		c.BoundTokens, c.Created = true, now.UTC().Truncate(time.Second)
		if err := authserver.ValidateClient(c, rules); err != nil {
			return err
		}
		old, err := store.Client(ctx, c.ID)
		switch {
		case errors.Is(err, authserver.ErrNotFound):
			err = store.CreateClient(ctx, c)
		case err == nil:
			c.Version, c.Created, c.Updated = old.Version, old.Created, c.Created
			err = store.UpdateClient(ctx, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
