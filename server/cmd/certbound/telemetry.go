package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/server/evidence"
	"github.com/certbound/certbound/server/telemetry"
)

// startOTLP begins to export traces and metrics, if that is switched on, and returns the
// logger that knows the traces. command is what runs.
func startOTLP(file interface {
	OTLP() (telemetry.OTLPConfig, error)
}, command string, metrics *telemetry.Metrics, logger *slog.Logger) (*telemetry.OTLP, *slog.Logger, error) {
	cfg, err := file.OTLP()
	if err != nil {
		return nil, nil, err
	}
	cfg.Fallback, cfg.Version, cfg.Metrics, cfg.Logger = "certbound-"+command, readVersion().Version, metrics, logger
	otlp, err := telemetry.StartOTLP(context.Background(), cfg)
	if err != nil {
		return nil, nil, err
	}
	return otlp, otlp.Logger(logger), nil
}

// openEvidence returns nil if nothing is to be kept.
func openEvidence(file interface{ EvidenceConfig() evidence.Config }, metrics *telemetry.Metrics, logger *slog.Logger) (*evidence.Keeper, error) {
	cfg := file.EvidenceConfig()
	if cfg.Folder == "" {
		return nil, nil
	}
	cfg.Logger = logger
	k, err := evidence.Open(cfg)
	if err == nil {
		metrics.Evidence(k.Dropped)
	}
	return k, err
}

// arrivedKey is for a request, whose certificates are evidence of what is decided.
type arrivedKey struct{}

// noteArrival lets [keepEvidence] find the request.
func noteArrival(k *evidence.Keeper, next http.Handler) http.Handler {
	if k == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), arrivedKey{}, r)))
	})
}

// keepEvidence keeps the certificates of requests that were decided. source is what the
// listener reads.
func keepEvidence(k *evidence.Keeper, source certsource.Source) decision.Observer {
	if k == nil {
		return nil
	}
	return func(ctx context.Context, d *decision.Decision) {
		r, ok := ctx.Value(arrivedKey{}).(*http.Request)
		if !ok || d.Thumbprint == "" {
			return
		}
		// The request was read with the same source already, and found good.
		if p, err := source.Certificate(r); err == nil && p.Thumbprint() == d.Thumbprint {
			k.Keep(p.Leaf(), p.Chain(), d.Allowed)
		}
	}
}
