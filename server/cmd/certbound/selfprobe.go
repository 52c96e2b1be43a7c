package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/certbound/certbound/server/doctor"
	"github.com/certbound/certbound/server/probe"
	"github.com/certbound/certbound/server/telemetry"
)

// A selfProbe sends forged certificate headers to the server's own public addresses, on a
// schedule, and raises an alarm if one is believed. It never stops the server.
type selfProbe struct {
	every  time.Duration
	after  time.Duration // before the first run
	cfg    doctor.Config
	bases  []string
	store  probe.Store
	log    *slog.Logger
	done   func(result string, now time.Time)
	closed func() // for tests: after each run
}

// probeLifetime is that of the credential of one run.
const probeLifetime = 10 * time.Minute

func (s *selfProbe) run(ctx context.Context) {
	timer := time.NewTimer(s.after)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			s.once(ctx)
			timer.Reset(s.every)
		}
	}
}

func (s *selfProbe) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeLifetime)
	defer cancel()
	if s.closed != nil {
		defer s.closed()
	}
	now := time.Now()
	cfg := s.cfg
	var err error
	if cfg.Credential, _, err = probe.Create(ctx, s.store, probeLifetime, now); err == nil {
		var report *doctor.Report
		if report, err = doctor.Probe(ctx, cfg, s.bases...); err == nil {
			s.report(report, now)
			return
		}
	}
	if ctx.Err() == context.Canceled { // the server is stopping
		return
	}
	s.log.Error("self probe: could not be made", slog.Any("cause", err))
	s.done(telemetry.ProbeUnanswered, now)
}

// report logs what was found, the alarm as an error.
func (s *selfProbe) report(r *doctor.Report, now time.Time) {
	result, answered := telemetry.ProbeClean, false
	for _, f := range r.Findings {
		answered = answered || f.Check == doctor.CheckForged && f.Outcome != doctor.Skipped
		if f.Outcome != doctor.Problem {
			continue
		}
		level, message := slog.LevelWarn, "self probe: finding"
		if result != telemetry.ProbeBelieved {
			result = telemetry.ProbeFindings
		}
		if f.Check == doctor.CheckForged {
			level, message, result = slog.LevelError, "self probe: ALARM: a forged certificate header is believed", telemetry.ProbeBelieved
		}
		s.log.Log(context.Background(), level, message, slog.String("check", f.Check), slog.String("where", f.Where),
			slog.String("found", f.Found), slog.String("details", strings.Join(f.Details, "; ")), slog.String("expected", f.Expected), slog.String("fix", f.Fix))
	}
	if !answered {
		result = telemetry.ProbeUnanswered
	} else if result == telemetry.ProbeClean && r.Notes > 0 {
		s.log.Info("self probe: forged certificate headers arrive, and none is believed")
	} else if result == telemetry.ProbeClean {
		s.log.Info("self probe: no forged certificate header gets through")
	}
	s.done(result, now)
}
