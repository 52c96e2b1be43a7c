package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/store/sqlite"
)

// An instance is a running authorization server: what serve runs, and dev with it.
type instance struct {
	file    *config.File
	store   *sqlite.Store
	as      *authserver.Server
	paths   *pki.Validator
	watcher *pki.FileWatcher // nil if no set is configured
	logger  *slog.Logger
	servers []*http.Server
	tasks   sync.WaitGroup
	failed  chan error // the first listener or task that ended by itself
}

// newInstance opens the store and loads everything that a start needs. Nothing
// listens yet.
func newInstance(ctx context.Context, file *config.File, logger *slog.Logger, observer decision.Observer) (_ *instance, err error) {
	in := &instance{file: file, logger: logger, failed: make(chan error, 8)}
	if in.paths, err = pki.NewValidator(pki.Config{Logger: logger}); err != nil {
		return nil, err
	}
	if sets := file.FileSets(); len(sets) > 0 {
		in.watcher, err = pki.NewFileWatcher(in.paths, pki.WatchConfig{
			Sets: sets, Interval: time.Duration(file.Trust.PollInterval), Logger: logger,
		})
		if err != nil {
			return nil, err
		}
	}
	cfg, err := file.AuthServer()
	if err != nil {
		return nil, err
	}
	guard, err := file.Guard()
	if err != nil {
		return nil, err
	}
	cfg.Paths, cfg.HasAnchorSet = in.paths, in.paths.HasSet
	cfg.JWKS = jwks.NewFetcher(jwks.FetcherConfig{Client: jwks.Guard(guard)})
	cfg.Logger, cfg.Observer = logger, observer
	in.store, err = sqlite.Open(ctx, sqlite.Config{Path: file.Path(file.Store.SQLite), Logger: logger})
	if err != nil {
		return nil, err
	}
	cfg.Store = in.store
	if in.as, err = authserver.New(cfg); err != nil {
		return nil, errors.Join(err, in.store.Close())
	}
	return in, nil
}

// start runs the background work, and serves on listeners that are open already.
func (in *instance) start(ctx context.Context, public, mtls net.Listener) error {
	publicTLS, err := serverTLS(in.file, "public", false)
	if err != nil {
		return err
	}
	in.run("authorization server", func() error { return in.as.Run(ctx) })
	if in.watcher != nil {
		in.run("trust anchors", func() error {
			if err := in.watcher.Run(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	in.serve(public, publicTLS, in.as.Handler())
	if mtls != nil {
		mtlsTLS, err := serverTLS(in.file, "mtls", true)
		if err != nil {
			return err
		}
		in.serve(mtls, mtlsTLS, in.as.MTLSHandler())
	}
	return nil
}

func (in *instance) run(name string, task func() error) {
	in.tasks.Go(func() {
		if err := task(); err != nil {
			in.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (in *instance) fail(err error) {
	select {
	case in.failed <- err:
	default:
	}
}

// serve serves a handler on a listener, over TLS unless conf is nil.
func (in *instance) serve(l net.Listener, conf *tls.Config, h http.Handler) {
	s := &http.Server{
		Handler:           certsource.RequireAuthority(h),
		TLSConfig:         conf,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		ConnContext:       certsource.ConnContext,
		ErrorLog:          slog.NewLogLogger(in.logger.Handler(), slog.LevelDebug),
	}
	in.servers = append(in.servers, s)
	in.tasks.Go(func() {
		var err error
		if conf == nil {
			err = s.Serve(l)
		} else {
			err = s.ServeTLS(l, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			in.fail(err)
		}
	})
}

// stop lets requests finish, for as long as the configuration says, and closes the
// store. The context of start has to be cancelled by the caller before.
func (in *instance) stop() error {
	grace, cancel := context.WithTimeout(context.Background(), time.Duration(in.file.Listen.ShutdownGrace))
	defer cancel()
	var errs []error
	var stopping sync.WaitGroup
	for _, s := range in.servers {
		stopping.Go(func() {
			if err := s.Shutdown(grace); err != nil {
				_ = s.Close()
			}
		})
	}
	stopping.Wait()
	in.tasks.Wait()
	errs = append(errs, in.store.Close())
	return errors.Join(errs...)
}

// reload looks at the files that may have changed, at once.
func (in *instance) reload() error {
	if in.watcher == nil {
		return nil
	}
	return in.watcher.Reload()
}

// serverTLS returns the settings of one listener. Each has its own, so that tickets
// of one are worth nothing at the other.
func serverTLS(file *config.File, section string, asks bool) (*tls.Config, error) {
	cert, key, plain := file.Listen.Public.Certificate, file.Listen.Public.Key, file.Listen.Public.InsecurePlainHTTP
	if section == "mtls" {
		cert, key, plain = file.Listen.MTLS.Certificate, file.Listen.MTLS.Key, file.Listen.MTLS.InsecurePlainHTTP
	}
	if plain {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(file.Path(cert), file.Path(key))
	if err != nil {
		return nil, fmt.Errorf("listen.%s: %w", section, err)
	}
	conf := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
	if asks {
		conf.ClientAuth = tls.RequestClientCert // judged by the application, for each request
	}
	return conf, nil
}

// listen opens an address. setting is what to change if the port is taken.
func listen(address, setting string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hinted(fmt.Errorf("%s is in use by another process", address), "stop it, or choose another port with %s", setting)
	case errors.Is(err, syscall.EACCES):
		return nil, hinted(fmt.Errorf("%s: not allowed to listen there", address), "choose a port above 1023 with %s", setting)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}
