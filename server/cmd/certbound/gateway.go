package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/admin"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/evidence"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/gateway/extauthz"
	"github.com/certbound/certbound/server/gateway/forwardauth"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/probe"
	"github.com/certbound/certbound/server/telemetry"
)

func (a *app) gatewayCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Put the check of certificate-bound tokens before an API",
		Long: `Run a reverse proxy that ends TLS, asks for the client's certificate, and forwards a
request if its token is good and bound to that certificate. The API behind it needs no
change (see 'certbound config example --gateway' and docs/gateway.md).

With listen.front it answers a proxy that is there already: auth_request of nginx,
forwardAuth of Traefik and forward_auth of Caddy (docs/forward-auth.md), and ext_authz of
Envoy over gRPC and HTTP (docs/envoy.md).

Changed settings, certificates and trust anchors are picked up by themselves, and at
once on SIGHUP, without a dropped connection; what is broken keeps what was there,
loudly. The addresses, limits and sets of trust anchors need a restart. On SIGTERM and
^C requests that are under way may finish.

Health (/livez), readiness (/readyz) and metrics (/metrics) are on the listener
listen.admin. The log goes to stderr.`,
		Example: `  certbound gateway --config gateway.yaml
  certbound config check --gateway gateway.yaml && certbound gateway --config gateway.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef(cmd, "--config FILE is missing; 'certbound config example --gateway' prints one to start from")
			}
			return a.gateway(cmd.Context(), name)
		},
	}
	cmd.Flags().StringVar(&name, "config", "", "configuration `FILE`")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	return cmd
}

func (a *app) gateway(ctx context.Context, name string) error {
	spareCollector()
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer restore()
	context.AfterFunc(ctx, restore) // the second ^C ends the process at once

	file, err := config.LoadGateway(name)
	if err != nil {
		return otherKind(err, true)
	}
	warnings, err := file.Check(a.now())
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(a.stderr, file.Log.Format, file.Log.Level)
	if err != nil {
		return err
	}
	// What waits in the log goes out last, whatever has ended us.
	defer func() { _ = telemetry.CloseLog(logger) }()
	for _, w := range warnings {
		logger.Warn("configuration", slog.String("warning", w.Error()))
	}
	in, err := newGateway(file, logger)
	if err != nil {
		return err
	}
	main, err := listen.Open(file.Listen.Address, "listen.address")
	if err != nil {
		return err
	}
	defer main.Close()
	attrs := []any{slog.String("gateway", main.Addr().String()), slog.String("version", readVersion().Version)}
	var operator net.Listener
	if address := file.Listen.Admin.Address; address != "" {
		if operator, err = listen.Open(address, "listen.admin.address"); err != nil {
			return err
		}
		defer operator.Close()
		attrs = append(attrs, slog.String("admin", operator.Addr().String()))
	}
	// Each connection may need another one to an upstream.
	if n := openFiles(); n > 0 {
		attrs = append(attrs, slog.Uint64("open_files", n))
		if need := 2 * uint64(file.Limits.Connections); n < need {
			logger.Warn("open files: the system allows fewer than limits.connections may need; raise it (LimitNOFILE, ulimit -n), or lower limits.connections",
				slog.Uint64("allowed", n), slog.Uint64("expected", need))
		}
	}
	if err := in.serve(main, operator); err != nil {
		in.otlp.Shutdown(ctx)
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	logger.Info("serving", attrs...)
	if err = in.run(ctx, hup); err == nil {
		logger.Info("stopped")
	}
	return err
}

// A gatewayInstance is a gateway with everything around it.
type gatewayInstance struct {
	logger  *slog.Logger
	metrics *telemetry.Metrics
	paths   *pki.Validator
	watcher *pki.FileWatcher // nil if no set is configured
	revoked checkers
	ages    revocationAges
	admin   *admin.Handler
	group   *listen.Group
	otlp    *telemetry.OTLP                 // nil if nothing is exported
	kept    *evidence.Keeper                // nil if nothing is kept
	pair    *listen.Pair                    // of the server; nil for plain HTTP
	handler http.Handler                    // of the clients, or of a proxy that asks
	grpc    *extauthz.Authorization         // in place of handler
	replace func(gateway.ProxyConfig) error // with what was built anew
	probes  probe.Memory                    // credentials of the front proxy

	mu      sync.Mutex
	file    *config.GatewayFile
	built   *config.BuiltGateway
	broken  error
	working context.Context
	running map[follower]context.CancelFunc
	tasks   sync.WaitGroup
}

// newGateway loads everything that a start needs. Nothing listens yet.
func newGateway(file *config.GatewayFile, logger *slog.Logger) (_ *gatewayInstance, err error) {
	in := &gatewayInstance{
		file: file, logger: logger, metrics: telemetry.New(readVersion().Version), running: map[follower]context.CancelFunc{},
	}
	in.metrics.Log(logger)
	if in.otlp, logger, err = startOTLP(file, "gateway", in.metrics, logger); err != nil {
		return nil, err
	}
	in.logger = logger
	defer func() {
		if err != nil {
			in.otlp.Shutdown(context.Background())
		}
	}()
	if in.kept, err = openEvidence(file, in.metrics, logger); err != nil {
		return nil, err
	}
	if in.paths, err = pki.NewValidator(pki.Config{Logger: logger}); err != nil {
		return nil, err
	}
	if sets := file.FileSets(); len(sets) > 0 {
		if in.revoked, err = withRevocation(file, sets, logger, in.metrics, in.otlp); err != nil {
			return nil, err
		}
		in.ages.all = in.revoked
		in.watcher, err = pki.NewFileWatcher(in.paths, pki.WatchConfig{
			Sets: sets, Interval: time.Duration(file.Trust.PollInterval), Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		in.metrics.Reloads("trust", func() telemetry.Reload {
			return telemetry.Reload{Generation: in.paths.Generation(), Broken: in.watcher.Err() != nil}
		})
	}
	if !file.Listen.InsecurePlainHTTP {
		if in.pair, err = listen.LoadPair(file.Path(file.Listen.Certificate), file.Path(file.Listen.Key), logger); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		in.metrics.Certificate("listen", in.pair.NotAfter)
		in.metrics.Reloads("listen", func() telemetry.Reload {
			return telemetry.Reload{Generation: in.pair.Generation(), Broken: in.pair.Err() != nil}
		})
	}
	if in.built, err = in.build(file, nil); err != nil {
		return nil, err
	}
	if err = in.front(); err != nil {
		return nil, err
	}
	in.metrics.Reloads("configuration", func() telemetry.Reload {
		in.mu.Lock()
		defer in.mu.Unlock()
		return telemetry.Reload{Broken: in.broken != nil}
	})
	in.admin = admin.New(admin.Config{
		Checks:  []admin.Check{{Name: "issuer", Run: in.warm}},
		Metrics: in.metrics.Handler(), Revocation: in.revoked.status, Logger: logger,
	})
	in.group = &listen.Group{
		Grace: time.Duration(file.Listen.ShutdownGrace), DrainFor: time.Duration(file.Listen.DrainFor),
		Draining: in.admin.Stop, Logger: logger,
	}
	return in, nil
}

// front makes what answers at the address.
func (in *gatewayInstance) front() error {
	front := in.file.Listen.Front
	if front == "proxy" {
		proxy, err := gateway.NewProxy(in.built.Proxy, gateway.ProxyOptions{
			Logger: in.logger, AccessLog: in.file.Log.Access, Metrics: gateway.NewMetrics(in.metrics.Registry()),
			Transport: in.otlp.Wrap("upstream"), Answered: in.otlp.Answered(),
		})
		if err != nil {
			return err
		}
		in.handler = in.otlp.Bare("gateway", probe.Handler(probe.Config{Listener: "gateway", Source: in.built.Source, Store: &in.probes, Logger: in.logger}, proxy))
		in.replace = proxy.Reload
		return nil
	}
	hop, err := in.file.Hop(in.paths)
	if err != nil {
		return err
	}
	options := gateway.FrontOptions{Logger: in.logger, AccessLog: in.file.Log.Access}
	// A route of before the last reload is in no map any more: its token is removed.
	var targets atomic.Pointer[map[*gateway.Route]*gateway.Target]
	targets.Store(&in.built.Proxy.Targets)
	pass := func(r *gateway.Route) bool {
		t := (*targets.Load())[r]
		return t != nil && t.PassToken
	}
	var f *gateway.Front
	if front == "envoy-grpc" {
		in.grpc, err = extauthz.New(extauthz.Config{Decider: in.built.Proxy.Decider, Options: options, Hop: hop, PassToken: pass})
		if err != nil {
			return err
		}
		f = in.grpc.Front
	} else {
		dialect := map[string]forwardauth.Dialect{
			"nginx": forwardauth.Nginx, "traefik": forwardauth.Traefik, "caddy": forwardauth.Caddy, "envoy-http": forwardauth.Envoy,
		}[front]
		h, err := forwardauth.New(forwardauth.Config{Decider: in.built.Proxy.Decider, Options: options, Dialect: dialect, Hop: hop, PassToken: pass})
		if err != nil {
			return err
		}
		in.handler, f = in.otlp.Handler("gateway", h), h.Front
	}
	in.replace = func(cfg gateway.ProxyConfig) error {
		targets.Store(&cfg.Targets)
		f.Reload(cfg.Decider)
		return nil
	}
	return nil
}

func (in *gatewayInstance) build(file *config.GatewayFile, before *config.BuiltGateway) (*config.BuiltGateway, error) {
	return file.Build(config.GatewayParts{
		Paths: in.paths, Observer: observers(in.metrics.ObserverAt(telemetry.EndpointAPI), in.otlp.Observer()), Judged: in.judged(),
		Wrap: in.otlp.Transport, Logger: in.logger, Before: before,
		CertificateAsOf: in.ages.of,
	})
}

// judged names the route on the span of a request, and keeps what came with it. It is nil
// if there is neither.
func (in *gatewayInstance) judged() func(context.Context, string, *gateway.Verdict) {
	if in.otlp == nil && in.kept == nil {
		return nil
	}
	return func(ctx context.Context, method string, v *gateway.Verdict) {
		if v.Route != nil {
			in.otlp.Route(ctx, method, v.Route.Name, v.Route.Path)
		}
		in.kept.Keep(v.Presented.Leaf(), v.Presented.Chain(), v.Allowed)
	}
}

// warm says whether tokens can be judged.
func (in *gatewayInstance) warm(ctx context.Context) error {
	in.mu.Lock()
	verifiers := in.built.Verifiers
	in.mu.Unlock()
	var errs []error
	for _, v := range verifiers {
		errs = append(errs, v.Warm(ctx))
	}
	return errors.Join(errs...)
}

// serve adds the listeners, which are open already.
func (in *gatewayInstance) serve(main, operator net.Listener) error {
	if in.grpc != nil {
		s, err := extauthz.NewServer(extauthz.ServerConfig{
			Name: "gateway", Authorization: in.grpc, Pair: in.pair, MaxConnections: in.file.Limits.Connections, Logger: in.logger,
			Unary: in.otlp.Unary(),
		})
		if err != nil {
			return err
		}
		in.metrics.Connections("gateway", s.Stats)
		in.group.Add(s, main)
		return in.serveOperator(operator)
	}
	s, err := listen.New(listen.Config{
		Name: "gateway", Handler: in.handler, Pair: in.pair, AskForCertificate: in.pair != nil, H2C: in.file.Listen.H2C,
		OnlyAESGCM:     in.file.Profile == resourceserver.ProfileFAPI2,
		AnyHost:        in.file.Listen.Front == "envoy-http", // which has the Host of the request that it asks about
		MaxConnections: in.file.Limits.Connections, MaxHeaderBytes: in.file.Limits.HeaderBytes,
		ProxyProtocol: in.file.ProxyProtocol(), Logger: in.logger,
	})
	if err != nil {
		return err
	}
	in.metrics.Connections("gateway", s.Stats)
	in.group.Add(s, main)
	return in.serveOperator(operator)
}

func (in *gatewayInstance) serveOperator(operator net.Listener) error {
	if operator == nil {
		return nil
	}
	s, err := listen.New(listen.Config{Name: "admin", Handler: in.operator(), MaxConnections: in.file.Limits.Connections, Logger: in.logger})
	if err != nil {
		return err
	}
	in.group.Add(s, operator)
	return nil
}

// operator serves what the operator and the upstreams ask for.
func (in *gatewayInstance) operator() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", in.admin)
	mux.HandleFunc("GET /assertion-keys", func(w http.ResponseWriter, r *http.Request) {
		in.mu.Lock()
		keys := in.built.AssertionKeys
		in.mu.Unlock()
		if keys == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "max-age=300")
		w.Write(keys)
	})
	if in.file.Listen.Front == "proxy" { // the others have no clients of their own
		mux.HandleFunc("POST /probe", in.createProbe)
	}
	return mux
}

// createProbe makes a credential for [probe.Path]. Whoever reaches the operator's listener
// learns no more by it.
func (in *gatewayInstance) createProbe(w http.ResponseWriter, r *http.Request) {
	credential, expires, err := probe.Create(r.Context(), &in.probes, 0, time.Now())
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	in.logger.Info("probe: a credential was made", slog.Time("expires", expires))
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, credential)
}

// pollConfig is how often the configuration file is read.
const pollConfig = 2 * time.Second

// run serves until ctx ends or something fails.
func (in *gatewayInstance) run(ctx context.Context, hup <-chan os.Signal) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	in.working = working
	if in.watcher != nil {
		in.tasks.Go(func() { _ = in.watcher.Run(working) })
	}
	in.tasks.Go(func() { in.revoked.run(working) })
	in.tasks.Go(func() { in.kept.Run(working) })
	if in.pair != nil {
		in.tasks.Go(func() { in.pair.Run(working) })
	}
	in.mu.Lock()
	in.follow()
	in.mu.Unlock()
	in.tasks.Go(func() {
		tick := time.NewTicker(pollConfig)
		defer tick.Stop()
		last := digestOf(in.file.Name)
		for {
			select {
			case <-working.Done():
				return
			case <-hup:
				last = digestOf(in.file.Name)
				in.reload(true)
			case <-tick.C:
				if now := digestOf(in.file.Name); now != last {
					last = now
					in.reload(false)
				}
			}
		}
	})
	err := in.group.Run(ctx)
	stop()
	in.tasks.Wait()
	in.otlp.Shutdown(ctx)
	return err
}

func digestOf(name string) [sha256.Size]byte {
	text, err := os.ReadFile(name)
	if err != nil {
		text = []byte(err.Error())
	}
	return sha256.Sum256(text)
}

// A follower keeps something fresh in the background: a [listen.Pair] its files, a
// [resourceserver.Verifier] what the issuer revokes.
type follower any

// follow starts and ends the followers. The caller holds mu.
func (in *gatewayInstance) follow() {
	used := map[follower]bool{}
	begin := func(f follower, run func(context.Context)) {
		used[f] = true
		if in.running[f] == nil {
			ctx, cancel := context.WithCancel(in.working)
			in.running[f] = cancel
			in.tasks.Go(func() { run(ctx) })
		}
	}
	for _, p := range in.built.Pairs {
		begin(p, p.Run)
	}
	for _, v := range in.built.Verifiers {
		begin(v, func(ctx context.Context) { _ = v.Run(ctx) })
	}
	for f, cancel := range in.running {
		if !used[f] {
			cancel()
			delete(in.running, f)
		}
	}
}

// reload takes on the configuration file, and with everything also the files that it
// names. What is broken stays as it was.
func (in *gatewayInstance) reload(everything bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var errs []error
	if everything {
		if in.watcher != nil {
			errs = append(errs, in.watcher.Reload())
		}
		if in.pair != nil {
			errs = append(errs, in.pair.Reload())
		}
		for _, p := range in.built.Pairs {
			errs = append(errs, p.Reload())
		}
	}
	in.broken = in.take()
	if err := errors.Join(append(errs, in.broken)...); err != nil {
		in.logger.Error("reload: what is broken stays as it was", slog.Any("cause", err))
		return
	}
	in.logger.Info("reload: the configuration is in force", slog.Int("routes", len(in.file.Routes)))
}

func (in *gatewayInstance) take() error {
	file, err := config.LoadGateway(in.file.Name)
	if err != nil {
		return err
	}
	for key, parts := range map[string][2]any{
		"listen": {in.file.Listen, file.Listen}, "trust": {in.file.Trust, file.Trust},
		"limits": {in.file.Limits, file.Limits}, "log": {in.file.Log, file.Log},
		"telemetry": {in.file.Telemetry, file.Telemetry}, "evidence": {in.file.Evidence, file.Evidence},
	} {
		if !reflect.DeepEqual(parts[0], parts[1]) {
			in.logger.Warn("reload: this part needs a restart; it stays as it was", slog.String("setting", key))
		}
	}
	// The source that listens is that of the start.
	file.Listen, file.Trust, file.Limits, file.Log = in.file.Listen, in.file.Trust, in.file.Limits, in.file.Log
	file.Telemetry, file.Evidence = in.file.Telemetry, in.file.Evidence
	built, err := in.build(file, in.built)
	if err != nil {
		return err
	}
	if err := in.replace(built.Proxy); err != nil {
		return err
	}
	before := in.built
	in.built, in.file = built, file
	in.follow()
	before.CloseIdle(built)
	return nil
}
