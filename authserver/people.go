package authserver

import "time"

// Grant types of the flows with a person in them (RFC 6749, Sections 4.1 and 6).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
)

// checkAuthorization reports the settings without which there is no flow with a person.
func (cfg *Config) checkAuthorization(bad func(setting, format string, args ...any)) {
	a := &cfg.Authorization
	if !a.Enabled {
		return
	}
	if _, ok := cfg.Store.(GrantStore); !ok && cfg.Store != nil {
		bad("Authorization.Enabled", "is set, but the store %T keeps no grants; use one that is a GrantStore", cfg.Store)
	}
	if a.Login == nil {
		bad("Authorization.Login", "required with Authorization.Enabled: say who finds out who the person is")
	}
	if hook, ok := a.Login.(*LoginHook); ok {
		hook.check(bad)
		if !cfg.MTLS.Enabled {
			bad("Authorization.Login", "LoginHook needs MTLS.Enabled: the login application answers with its certificate")
		}
	}
	a.check(bad)
	if r := a.Refresh; r.Idle < 0 || r.Lifetime < 0 {
		bad("Authorization.Refresh", "Idle and Lifetime must not be negative")
	}
}

// setDefaults fills in the policy of refresh tokens.
func (p *RefreshPolicy) setDefaults() {
	def(&p.Idle, 30*24*time.Hour)
	def(&p.Lifetime, 365*24*time.Hour)
	def(&p.Grace, 30*time.Second)
}
