package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"howett.net/plist"

	"sallyport/installer/macos/launchd"
	"sallyport/internal/config"
)

// dict is a dictionary of a property list.
type dict = map[string]any

// profile is a configuration profile with one payload. Its keys are Apple's: "Device
// Management Profile > TopLevel", and below it the page of each type of payload.
type profile struct {
	name        string // behind the identifier
	title, text string
	payload     string // its type
	content     dict   // what only this type has
}

// encode returns the profile as XML.
func (p profile) encode() ([]byte, error) {
	id := config.PreferencesDomain + "." + p.name
	inner := dict{"PayloadType": p.payload, "PayloadVersion": 1, "PayloadIdentifier": id + ".payload", "PayloadUUID": uuidOf(id + ".payload"),
		"PayloadDisplayName": p.title, "PayloadOrganization": "Sallyport"}
	for key, value := range p.content {
		inner[key] = value
	}
	b, err := plist.MarshalIndent(dict{"PayloadType": "Configuration", "PayloadVersion": 1, "PayloadScope": "System", "PayloadIdentifier": id,
		"PayloadUUID": uuidOf(id), "PayloadDisplayName": p.title, "PayloadDescription": p.text, "PayloadOrganization": "Sallyport",
		"TargetDeviceType": 5, // a Mac
		"PayloadContent":   []dict{inner}}, plist.XMLFormat, "\t")
	return append(b, '\n'), err
}

// uuidOf makes an identifier's UUID: RFC 9562, version 5. One that is always the
// same replaces the profile that is there.
func uuidOf(identifier string) string {
	return strings.ToUpper(uuid.NewSHA1(uuid.NameSpaceDNS, []byte(identifier)).String())
}

// settingsProfile manages what a configuration file sets. The payload is the one that
// Apple documents for the preferences of any program. (A domain as the type of a
// payload works as well, but nowhere is it said what macOS then adds of its own.)
func settingsProfile(file []byte) (profile, error) {
	settings, err := config.Preferences(file)
	if err == nil && len(settings) == 0 {
		err = errors.New("it sets nothing")
	}
	return profile{"settings", "Sallyport settings", "What Sallyport asks for at the login, and of whom.", "com.apple.ManagedClient.preferences",
		dict{"PayloadContent": dict{config.PreferencesDomain: dict{"Forced": []dict{{"mcx_preference_settings": settings}}}}}}, err
}

var teamID = regexp.MustCompile(`^[A-Z0-9]{10}$`)

func checkTeam(team string) error {
	if !teamID.MatchString(team) {
		return fmt.Errorf("%q is no Team ID: it has ten capital letters and digits, as in 'codesign -dv'", team)
	}
	return nil
}

// requirement is what a program signed with a Developer ID of that team meets, under
// the identifier that it is signed with: Apple's TN3127.
func requirement(identifier, team string) string {
	return fmt.Sprintf(`identifier "%s" and anchor apple generic and certificate 1[field.1.2.840.113635.100.6.2.6] exists and `+
		`certificate leaf[field.1.2.840.113635.100.6.1.13] exists and certificate leaf[subject.OU] = "%s"`, identifier, team)
}

// privacyProfile lets the agent's program write files of the system's administration:
// /etc/pam.d/sudo_local. It gives nothing else.
func privacyProfile(team string) (profile, error) {
	return profile{"privacy", "Sallyport privacy preferences", "Lets Sallyport put its line into sudo's PAM configuration.", "com.apple.TCC.configuration-profile-policy",
		dict{"Services": dict{"SystemPolicySysAdminFiles": []dict{{
			"Identifier": launchd.Program, "IdentifierType": "path", "CodeRequirement": requirement(launchd.Label, team), "Allowed": true,
		}}}}}, checkTeam(team)
}

// serviceProfile keeps people from switching the LaunchDaemon off in System Settings.
// The label alone could be anybody's.
func serviceProfile(team string) (profile, error) {
	return profile{"service", "Sallyport background service", "Keeps the Sallyport agent running.", "com.apple.servicemanagement",
		dict{"Rules": []dict{{"RuleType": "Label", "RuleValue": launchd.Label, "TeamIdentifier": team, "Comment": "The Sallyport agent"}}}}, checkTeam(team)
}
