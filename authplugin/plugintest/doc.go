// Package plugintest logs in through the authorization plug-in for macOS, on Linux:
// the core of the plug-in as a shared object, a stand-in for authd that runs it
// (authplugin/host), a view that plays a script, and the shipped agent behind it, or
// one that misbehaves. Every login runs with the plug-in as it is and with one built
// with ASan and UBSan. It has tests only. What they show is shown of the stand-in:
// no Mac was seen.
package plugintest
