/*
 * The part of macOS's authorization plug-in interface that we use, for systems
 * without Apple's SDK: names, values and order as Apple documents them
 * (Security/AuthorizationPlugin.h, "Authorization Plug-ins"). On a Mac the SDK's own
 * header is used; this folder is not in the include path there.
 */
#ifndef SALLYPORT_SHIM_AUTHORIZATION_PLUGIN_H
#define SALLYPORT_SHIM_AUTHORIZATION_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __APPLE__
#include <MacTypes.h>
#else
typedef int32_t OSStatus;
typedef uint32_t UInt32;
#endif

enum {
	errAuthorizationSuccess = 0,
	errAuthorizationDenied = -60005,
	errAuthorizationInternal = -60008,
};

typedef const char *AuthorizationString;
typedef void *AuthorizationPluginRef;
typedef void *AuthorizationMechanismRef;
typedef struct OpaqueAuthorizationEngineRef *AuthorizationEngineRef;
typedef void *AuthorizationSessionId;
typedef AuthorizationString AuthorizationMechanismId;
typedef UInt32 AuthorizationResult;
typedef UInt32 AuthorizationContextFlags;

/* AuthorizationResult. Zero lets in: only verify sets it from a verdict. */
enum {
	kAuthorizationResultAllow = 0,
	kAuthorizationResultDeny,
	kAuthorizationResultUndefined,
	kAuthorizationResultUserCanceled,
};

enum {
	kAuthorizationContextFlagExtractable = 1 << 0,
	kAuthorizationContextFlagVolatile = 1 << 1,
	kAuthorizationContextFlagSticky = 1 << 2,
};

typedef struct {
	size_t length;
	void *data;
} AuthorizationValue;

typedef struct {
	UInt32 count;
	AuthorizationValue *values;
} AuthorizationValueVector;

enum {
	kAuthorizationPluginInterfaceVersion = 0,
	kAuthorizationCallbacksVersion = 4,
};

typedef struct AuthorizationCallbacks {
	UInt32 version;
	/* Ends an invocation, once. */
	OSStatus (*SetResult)(AuthorizationEngineRef engine, AuthorizationResult result);
	/* Asks that the mechanisms behind this one, which has set its result, be
	 * deactivated, and that this one be invoked again. */
	OSStatus (*RequestInterrupt)(AuthorizationEngineRef engine);
	/* Answers MechanismDeactivate. */
	OSStatus (*DidDeactivate)(AuthorizationEngineRef engine);
	OSStatus (*GetContextValue)(AuthorizationEngineRef engine, AuthorizationString key,
				    AuthorizationContextFlags *flags, const AuthorizationValue **value);
	OSStatus (*SetContextValue)(AuthorizationEngineRef engine, AuthorizationString key,
				    AuthorizationContextFlags flags, const AuthorizationValue *value);
	OSStatus (*GetHintValue)(AuthorizationEngineRef engine, AuthorizationString key,
				 const AuthorizationValue **value);
	OSStatus (*SetHintValue)(AuthorizationEngineRef engine, AuthorizationString key,
				 const AuthorizationValue *value);
	OSStatus (*GetArguments)(AuthorizationEngineRef engine, const AuthorizationValueVector **arguments);
	OSStatus (*GetSessionId)(AuthorizationEngineRef engine, AuthorizationSessionId *session);
	/* From version 1 on. */
	OSStatus (*GetImmutableHintValue)(AuthorizationEngineRef engine, AuthorizationString key,
					  const AuthorizationValue **value);
	/* From version 2 on. */
	OSStatus (*GetLAContext)(AuthorizationEngineRef engine, const void **context);
	OSStatus (*GetTokenIdentities)(AuthorizationEngineRef engine, const void *context, const void **identities);
	/* From version 3 on. */
	OSStatus (*GetTKTokenWatcher)(AuthorizationEngineRef engine, const void **watcher);
	/* From version 4 on. */
	OSStatus (*RemoveHintValue)(AuthorizationEngineRef engine, AuthorizationString key);
	OSStatus (*RemoveContextValue)(AuthorizationEngineRef engine, AuthorizationString key);
} AuthorizationCallbacks;

typedef struct AuthorizationPluginInterface {
	UInt32 version;
	OSStatus (*PluginDestroy)(AuthorizationPluginRef plugin);
	OSStatus (*MechanismCreate)(AuthorizationPluginRef plugin, AuthorizationEngineRef engine,
				    AuthorizationMechanismId id, AuthorizationMechanismRef *mechanism);
	OSStatus (*MechanismInvoke)(AuthorizationMechanismRef mechanism);
	OSStatus (*MechanismDeactivate)(AuthorizationMechanismRef mechanism);
	OSStatus (*MechanismDestroy)(AuthorizationMechanismRef mechanism);
} AuthorizationPluginInterface;

OSStatus AuthorizationPluginCreate(const AuthorizationCallbacks *callbacks, AuthorizationPluginRef *plugin,
				   const AuthorizationPluginInterface **interface);

#endif
