package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/telemetry"
)

func (a *app) serveCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the authorization server",
		Long: `Run the authorization server of a configuration file (see 'certbound config').

Changed certificates, keys and trust anchors are picked up by themselves, and at once
on SIGHUP; a broken file keeps what was there, loudly. Clients that are registered by
command count within one second. Other settings need a restart. On SIGTERM and ^C
requests that are under way may finish.

Health (/livez), readiness (/readyz) and metrics (/metrics) are on the listener
listen.admin. The log goes to stderr.`,
		Example: `  certbound serve --config certbound.yaml
  certbound config check certbound.yaml && certbound serve --config certbound.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name = orDefault(name, defaultConfig); name == "" {
				return usagef(cmd, "--config FILE is missing; 'certbound config example' prints one to start from")
			}
			return a.serve(cmd.Context(), name)
		},
	}
	cmd.Flags().StringVar(&name, "config", "", "configuration `FILE` (default "+defaultConfig+", if it is there)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	return cmd
}

func (a *app) serve(ctx context.Context, name string) error {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer restore()
	context.AfterFunc(ctx, restore) // the second ^C ends the process at once
	spareCollector()

	file, err := config.Load(name)
	if err != nil {
		return otherKind(err, false)
	}
	warnings, err := file.Check(a.now())
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(a.stderr, file.Log.Format, file.Log.Level)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		logger.Warn("configuration", slog.String("warning", w.Error()))
	}
	in, err := newInstance(ctx, file, "serve", logger, nil)
	if err != nil {
		return err
	}
	listeners := make([]net.Listener, 3)
	for i, l := range []struct{ address, setting string }{
		{file.Listen.Public.Address, "listen.public.address"},
		{file.Listen.MTLS.Address, "listen.mtls.address"},
		{file.Listen.Admin.Address, "listen.admin.address"},
	} {
		if l.address == "" {
			continue
		}
		if listeners[i], err = listen.Open(l.address, l.setting); err != nil {
			for _, open := range listeners[:i] {
				if open != nil {
					open.Close()
				}
			}
			return joinClose(err, in)
		}
	}
	if err := in.serveAll(listeners[0], listeners[1], listeners[2]); err != nil {
		return joinClose(err, in)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reloads, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for {
			select {
			case <-reloads.Done():
				return
			case <-hup:
				if err := in.reload(); err != nil {
					logger.Error("reload: what is broken stays as it was", slog.Any("cause", err))
				} else {
					logger.Info("reload: certificates and trust anchors were read again")
				}
			}
		}
	}()
	attrs := []any{slog.String("issuer", file.Issuer), slog.String("version", readVersion().Version)}
	for i, key := range []string{"public", "mtls", "admin"} {
		if listeners[i] != nil {
			attrs = append(attrs, slog.String(key, listeners[i].Addr().String()))
		}
	}
	logger.Info("serving", attrs...)
	err = in.run(ctx)
	if err == nil {
		logger.Info("stopped")
	}
	return err
}

// spareCollector lets the heap grow to five times of what is live before it is
// collected. Little lives on in this process, while each handshake leaves some 100 KB
// of garbage: at the usual factor of two, a tenth of the CPU time of a new connection
// goes to the collector, for 13 MB of memory saved. Who sets GOGC decides.
func spareCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
