package main

import (
	"fmt"
	"log/slog"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/people/accounts"
	"github.com/certbound/certbound/server/people/upstream"
)

// withPeople adds who logs people in, and the pages that they see.
func withPeople(cfg *authserver.Config, file *config.File, users accounts.Store, logger *slog.Logger) error {
	if !file.People.Enabled {
		return nil
	}
	var err error
	a := &cfg.Authorization
	if a.Pages, err = file.Pages(); err != nil {
		return err
	}
	switch file.People.Login {
	case config.LoginAccounts:
		a.Login = accounts.NewLogin(&accounts.Directory{Store: users}, logger)
	case config.LoginUpstream:
		settings, err := file.Upstream()
		if err != nil {
			return err
		}
		a.Login, err = upstream.New(settings)
		if err != nil {
			return err
		}
	case config.LoginHookKind:
		a.Login = &authserver.LoginHook{URL: file.People.Hook.URL, ClientID: file.People.Hook.ClientID}
	default: // the check of the file has found it
		return fmt.Errorf("people.login: %q is unknown", file.People.Login)
	}
	return nil
}
