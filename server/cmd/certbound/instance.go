package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/server/admin"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/doctor"
	"github.com/certbound/certbound/server/evidence"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/people/accounts"
	"github.com/certbound/certbound/server/probe"
	"github.com/certbound/certbound/server/store/sqlite"
	"github.com/certbound/certbound/server/telemetry"
)

// An instance is an authorization server with everything around it: what serve runs,
// and dev with it.
type instance struct {
	file    *config.File
	logger  *slog.Logger
	metrics *telemetry.Metrics
	store   authserver.Store
	users   accounts.Store // the same database: the built-in accounts
	as      *authserver.Server
	watcher *pki.FileWatcher // nil if no set is configured
	revoked checkers
	admin   *admin.Handler
	group   *listen.Group
	source  certsource.Source // of the mutual-TLS listener
	probe   *selfProbe        // nil if none is configured
	otlp    *telemetry.OTLP   // nil if nothing is exported
	kept    *evidence.Keeper  // nil if nothing is kept
	// The server certificates by the name of their listener. Several may be one.
	pairs map[string]*listen.Pair
}

// newInstance opens the store and loads everything that a start needs. Nothing
// listens yet. The caller calls run, or close.
func newInstance(ctx context.Context, file *config.File, command string, logger *slog.Logger, observer decision.Observer) (_ *instance, err error) {
	in := &instance{file: file, logger: logger, metrics: telemetry.New(readVersion().Version), pairs: map[string]*listen.Pair{}}
	in.metrics.Log(logger)
	if in.otlp, logger, err = startOTLP(file, command, in.metrics, logger); err != nil {
		return nil, err
	}
	in.logger = logger
	defer func() {
		if err != nil {
			in.otlp.Shutdown(ctx)
		}
	}()
	if in.kept, err = openEvidence(file, in.metrics, logger); err != nil {
		return nil, err
	}
	paths, err := pki.NewValidator(pki.Config{Logger: logger})
	if err != nil {
		return nil, err
	}
	if sets := file.FileSets(); len(sets) > 0 {
		if in.revoked, err = withRevocation(file, sets, logger, in.metrics, in.otlp); err != nil {
			return nil, err
		}
		in.watcher, err = pki.NewFileWatcher(paths, pki.WatchConfig{
			Sets: sets, Interval: time.Duration(file.Trust.PollInterval), Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		in.metrics.Reloads("trust", func() telemetry.Reload {
			return telemetry.Reload{Generation: paths.Generation(), Broken: in.watcher.Err() != nil}
		})
	}
	if err := in.loadPairs(); err != nil {
		return nil, err
	}
	guard, err := file.Guard()
	if err != nil {
		return nil, err
	}
	cfg, err := file.AuthServer(paths)
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: file.Path(file.Store.SQLite), Logger: logger})
	if err != nil {
		return nil, err
	}
	in.store, in.users = in.metrics.Store(store), store
	cfg.Store, cfg.Paths, cfg.HasAnchorSet = in.store, paths, file.HasAnchorSet
	if err := withPeople(&cfg, file, store, logger); err != nil {
		return nil, errors.Join(err, in.store.Close())
	}
	cfg.JWKS = jwks.NewFetcher(jwks.FetcherConfig{Client: in.otlp.Client("client jwks", jwks.Guard(guard))})
	cfg.Logger, cfg.Observer = logger, observers(in.metrics.Observer(), in.otlp.Observer(), keepEvidence(in.kept, cfg.Source), observer)
	cfg.OnRenewal = func(_, _ authserver.CertificateRecord) { in.metrics.Renewed() }
	in.metrics.ClientCertificates(func(ctx context.Context) ([]time.Time, error) { return clientEnds(ctx, in.store, file) })
	if len(in.revoked) > 0 {
		cfg.RevocationList = in.revoked
	}
	in.source = cfg.Source
	if in.as, err = authserver.New(cfg); err != nil {
		return nil, errors.Join(err, in.store.Close())
	}
	if err := in.watchSelf(); err != nil {
		return nil, errors.Join(err, in.store.Close())
	}
	in.admin = admin.New(admin.Config{
		Checks: []admin.Check{
			{Name: "store", Run: in.store.Ping},
			{Name: "signing keys", Run: in.hasKey},
		},
		Metrics: in.metrics.Handler(), Revocation: in.revoked.status, Logger: logger,
	})
	in.group = &listen.Group{Grace: time.Duration(file.Listen.ShutdownGrace), DrainFor: time.Duration(file.Listen.DrainFor), Draining: in.admin.Stop, Logger: logger}
	return in, nil
}

// observers tells each of them that is not nil.
func observers(list ...decision.Observer) decision.Observer {
	list = slices.DeleteFunc(list, func(o decision.Observer) bool { return o == nil })
	if len(list) == 1 {
		return list[0]
	}
	return func(ctx context.Context, d *decision.Decision) {
		for _, o := range list {
			o(ctx, d)
		}
	}
}

func (in *instance) hasKey(ctx context.Context) error {
	keys, err := in.store.SigningKeys(ctx)
	if err == nil && len(keys) == 0 {
		err = errors.New("there is none yet")
	}
	return err
}

// loadPairs reads the server certificates; listeners with the same files share one.
func (in *instance) loadPairs() error {
	l := &in.file.Listen
	loaded := map[string]*listen.Pair{}
	for _, s := range []struct {
		name      string
		on        bool
		cert, key config.Path
	}{
		{"public", !l.Public.InsecurePlainHTTP, l.Public.Certificate, l.Public.Key},
		{"mtls", l.MTLS.Address != "" && !l.MTLS.InsecurePlainHTTP, l.MTLS.Certificate, l.MTLS.Key},
	} {
		if !s.on {
			continue
		}
		cert, key := in.file.Path(s.cert), in.file.Path(s.key)
		pair := loaded[cert+"\x00"+key]
		if pair == nil {
			var err error
			if pair, err = listen.LoadPair(cert, key, in.logger); err != nil {
				return fmt.Errorf("listen.%s: %w", s.name, err)
			}
			loaded[cert+"\x00"+key] = pair
		}
		in.pairs[s.name] = pair
		in.metrics.Certificate("listen."+s.name, pair.NotAfter)
		in.metrics.Reloads("listen."+s.name, func() telemetry.Reload {
			return telemetry.Reload{Generation: pair.Generation(), Broken: pair.Err() != nil}
		})
	}
	return nil
}

// serve adds a listener that is open already. A nil pair is plain HTTP.
func (in *instance) serve(name string, l net.Listener, pair *listen.Pair, asks bool, h http.Handler) error {
	cfg := listen.Config{
		Name: name, Handler: in.traced(name, in.metrics.Instrument(name, h)), Pair: pair, AskForCertificate: asks,
		OnlyAESGCM:     in.file.Profile == authserver.ProfileFAPI2,
		MaxConnections: in.file.Limits.Connections, Logger: in.logger,
	}
	if name == "mtls" {
		cfg.ProxyProtocol = in.file.ProxyProtocol()
	}
	s, err := listen.New(cfg)
	if err != nil {
		return err
	}
	in.metrics.Connections(name, s.Stats)
	in.group.Add(s, l)
	return nil
}

// traced makes spans of the requests to a listener; those of the operator are none.
func (in *instance) traced(name string, h http.Handler) http.Handler {
	if name == "admin" {
		return h
	}
	return in.otlp.Handler(name, in.otlp.Endpoint(h))
}

// serveAll adds the listeners of the configuration. One that is nil is left out.
func (in *instance) serveAll(public, mtls, operator net.Listener) error {
	if err := in.serve("public", public, in.pairs["public"], false, in.probed("public", nil, in.as.Handler())); err != nil {
		return err
	}
	if mtls != nil {
		if err := in.serve("mtls", mtls, in.pairs["mtls"], in.pairs["mtls"] != nil, noteArrival(in.kept, in.probed("mtls", in.source, in.as.MTLSHandler()))); err != nil {
			return err
		}
	}
	if operator != nil {
		return in.serve("admin", operator, nil, false, in.admin)
	}
	return nil
}

// probed answers probes before a handler. source is what the listener reads.
func (in *instance) probed(listener string, source certsource.Source, h http.Handler) http.Handler {
	return probe.Handler(probe.Config{Listener: listener, Source: source, Store: in.store, Logger: in.logger}, h)
}

// watchSelf prepares the look at the own public addresses.
func (in *instance) watchSelf() error {
	every := time.Duration(in.file.SelfProbe.Every)
	if every == 0 {
		return nil
	}
	roots, err := in.file.ProbeRoots()
	if err != nil {
		return err
	}
	in.probe = &selfProbe{
		every: every, after: 5 * time.Second, store: in.store, log: in.logger, done: in.metrics.SelfProbe().Done,
		cfg: doctor.Config{Issuer: in.file.Issuer, RootCAs: roots}, bases: []string{in.file.Listen.MTLS.URL},
	}
	return nil
}

// run serves until ctx ends or something fails, and closes the store. What happens in
// the background goes on until the last request is done.
func (in *instance) run(ctx context.Context) error {
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	var failure error
	tasks.Go(func() {
		if err := in.as.Run(working); err != nil && working.Err() == nil {
			failure = err
			stopServing()
		}
	})
	if in.watcher != nil {
		tasks.Go(func() { _ = in.watcher.Run(working) })
	}
	tasks.Go(func() { in.revoked.run(working) })
	for _, p := range in.uniquePairs() {
		tasks.Go(func() { p.Run(working) })
	}
	tasks.Go(func() { in.kept.Run(working) })
	if in.probe != nil {
		tasks.Go(func() { in.probe.run(serving) })
	}
	err := in.group.Run(serving)
	stopWorking()
	tasks.Wait()
	in.otlp.Shutdown(ctx)
	return errors.Join(failure, err, in.store.Close())
}

// close gives up an instance that was never run.
func (in *instance) close() error {
	in.otlp.Shutdown(context.Background())
	return in.store.Close()
}

func (in *instance) uniquePairs() []*listen.Pair {
	seen := map[*listen.Pair]bool{}
	var out []*listen.Pair
	for _, p := range in.pairs {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// reload looks at once at the files that may have changed. What is broken stays as it
// was, loudly.
func (in *instance) reload() error {
	var errs []error
	if in.watcher != nil {
		errs = append(errs, in.watcher.Reload())
	}
	for _, p := range in.uniquePairs() {
		errs = append(errs, p.Reload())
	}
	return errors.Join(errs...)
}
