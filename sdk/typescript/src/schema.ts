// Generated from docs/openapi.json by `npm run generate`. Don't edit.

export interface paths {
    "/api-key": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make an API key
         * @description For whoever shows a licence key. There is nothing at this path on deployments without licences.
         */
        post: operations["createApiKey"];
        /**
         * Delete an API key
         * @description For whoever shows the licence key of which it is. Deleting what is deleted already succeeds.
         */
        delete: operations["deleteApiKey"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * This document for people
         * @description A page that asks no other host.
         */
        get: operations["docs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether the process runs
         * @description Asks no node.
         */
        get: operations["healthz"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/lock/acquire": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Acquire a lock
         * @description Waits for the lock as the retries say. A client that disconnects ends its wait, and what it had won meanwhile is released. An acquire whose answer was lost can be sent again with the same uuid: it succeeds with the same token and a lease of at least `lease` from now.
         */
        post: operations["acquire"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/lock/extend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Hold a lock for longer
         * @description Adds to the lock's present expiry, up to the cluster's maximum lease from now. A lock that has expired is not brought back. Sent twice, it may add twice.
         */
        post: operations["extend"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/lock/release": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Release a lock
         * @description Who waits for the lock is told. Sent again after it succeeded, it is answered 404, or 409 once others hold the lock.
         */
        post: operations["release"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * This document
         * @description OpenAPI 3.1, the same on every deployment of this version.
         */
        get: operations["openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether locks can be served
         * @description Asks the nodes, a few times a second at most.
         */
        get: operations["readyz"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What the caller has used
         * @description Lock acquisition attempts of the API key's licence, and how many there may be.
         */
        get: operations["usage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description What the acquire went by, echoed in the answer. */
        AcquireConfig: {
            fifo: boolean;
            key: string;
            /**
             * Format: int64
             * @description In milliseconds.
             */
            lease: number;
            /** Format: int64 */
            retryAttempts: number;
            /**
             * Format: int64
             * @description In milliseconds.
             */
            retryDelay: number;
            /**
             * Format: int64
             * @description In milliseconds.
             */
            retryJitter: number;
            /** @description The lock's owner, to extend and release with. */
            uuid: string;
        };
        /** @description The lock is the caller's. */
        Acquired: {
            /** @enum {boolean} */
            acquired: true;
            config: components["schemas"]["AcquireConfig"];
            /**
             * Format: int64
             * @description Rises with each acquisition of the key: hand it to your storage and have it refuse lower ones.
             */
            fencingToken: number;
            /**
             * Format: int32
             * @description 1 + the retries that were made.
             */
            lockAcquisitionAttempts: number;
            message: null;
            /**
             * Format: int64
             * @description Milliseconds that the holder may rely on, from the time of answering.
             */
            validity: number;
        };
        /** @description A request that was not served. */
        AcquireProblem: {
            /** @enum {boolean} */
            acquired: false;
            /** @description What is wrong, for people. */
            message: string;
        };
        /** @description Which lock, for how long, and how long to try for it. */
        AcquireRequest: {
            /**
             * @description First in, first out among all who ask with it.
             * @default false
             */
            fifo?: boolean | null;
            /** @description The resource to lock: any text of 1 to 512 bytes of UTF-8. */
            key: string;
            /**
             * @description Milliseconds for which the lock is held unless it is extended or released. A deployment may take less than the maximum given here; the default is then its maximum, if that is less than 10000.
             * @default 10000
             */
            lease?: number | null;
            /**
             * @description Retries after the first attempt. retryAttempts × (retryDelay + retryJitter) may not exceed the deployment's longest wait, 300000 milliseconds unless configured otherwise.
             * @default 10
             */
            retryAttempts?: number | null;
            /**
             * @description Milliseconds between attempts.
             * @default 500
             */
            retryDelay?: number | null;
            /**
             * @description A random amount of up to so many milliseconds is added to each delay.
             * @default 0
             */
            retryJitter?: number | null;
            /**
             * @description What the lock operation itself answers (404, 409, 503) comes with status 200.
             * @default false
             */
            softFail?: boolean | null;
            /** @description The lock's owner: whoever knows it can extend and release. 1 to 128 bytes of UTF-8; a fresh UUIDv7 if it is not given. Asking again with the uuid that holds the lock succeeds with the same token. */
            uuid?: string | null;
        };
        /** @description A new API key. */
        ApiKeyAnswer: {
            /** @description Shown this once: nobody can tell it again. */
            apiKey: string;
        };
        /** @description Whose key to make. */
        CreateKeyRequest: {
            /** @description The licence's key. It, or licenseKey, must be given; where both are, they must agree. */
            licenceKey?: string | null;
            /** @description The other spelling of licenceKey. */
            licenseKey?: string | null;
        };
        /** @description Which key to delete, and whose it is. */
        DeleteKeyRequest: {
            /** @description The API key to delete. */
            apiKey: string;
            /** @description The licence's key. It, or licenseKey, must be given; where both are, they must agree. */
            licenceKey?: string | null;
            /** @description The other spelling of licenceKey. */
            licenseKey?: string | null;
        };
        /** @description The lock is held for longer. */
        Extended: {
            /** @enum {boolean} */
            extended: true;
            message: null;
            /**
             * Format: int64
             * @description Milliseconds that the holder may rely on, from the time of answering.
             */
            validity: number;
        };
        /** @description A request that was not served. */
        ExtendProblem: {
            /** @enum {boolean} */
            extended: false;
            /** @description What is wrong, for people. */
            message: string;
        };
        /** @description Which lock, and by how much. */
        ExtendRequest: {
            /** @description Milliseconds that are added to the lock's present expiry. A deployment may take less than the maximum given here. */
            extendBy: number;
            /** @description The resource to lock: any text of 1 to 512 bytes of UTF-8. */
            key: string;
            /**
             * @description What the lock operation itself answers (404, 409, 503) comes with status 200.
             * @default false
             */
            softFail?: boolean | null;
            /** @description The uuid with which the lock was acquired: 1 to 128 bytes of UTF-8. */
            uuid: string;
        };
        /** @description The process runs. */
        Health: {
            status: string;
        };
        Node: {
            node: string;
            state: string;
            /**
             * Format: int64
             * @description Milliseconds until a guarded node votes again, if that is known.
             */
            votesIn?: number;
            /** @description What is wrong with it, if anything is. */
            why?: string;
        };
        /** @description The lock is not the caller's. */
        NotAcquired: {
            /** @enum {boolean} */
            acquired: false;
            config: components["schemas"]["AcquireConfig"];
            /**
             * Format: int32
             * @description 1 + the retries that were made.
             */
            lockAcquisitionAttempts: number;
            message: string;
            /**
             * Format: int32
             * @description With `fifo`, where others hold the lock: how many stood before this request in line.
             */
            position?: number;
            /**
             * Format: int64
             * @description Milliseconds until the holder's lease ends, if the lock is held by others and that is known.
             */
            retryAfter?: number;
        };
        /** @description The lock was not extended. */
        NotExtended: {
            /** @enum {boolean} */
            extended: false;
            message: string;
            /**
             * Format: int64
             * @description Milliseconds until the lease of whoever holds the lock ends, if that is known.
             */
            retryAfter?: number;
        };
        /** @description The lock was not released. */
        NotReleased: {
            message: string;
            /** @enum {boolean} */
            released: false;
            /**
             * Format: int64
             * @description Milliseconds until the lease of whoever holds the lock ends, if that is known.
             */
            retryAfter?: number;
        };
        /** @description A request that was not served. */
        Problem: {
            /** @description What is wrong, for people. */
            message: string;
        };
        /** @description Whether locks can be served, and what every node says. */
        Readiness: {
            nodes: components["schemas"]["Node"][];
            quorum: number;
            ready: boolean;
            status: string;
        };
        /** @description The lock is nobody's. */
        Released: {
            message: null;
            /** @enum {boolean} */
            released: true;
        };
        /** @description A request that was not served. */
        ReleaseProblem: {
            /** @description What is wrong, for people. */
            message: string;
            /** @enum {boolean} */
            released: false;
        };
        /** @description Which lock. */
        ReleaseRequest: {
            /** @description The resource to lock: any text of 1 to 512 bytes of UTF-8. */
            key: string;
            /**
             * @description What the lock operation itself answers (404, 409, 503) comes with status 200.
             * @default false
             */
            softFail?: boolean | null;
            /** @description The uuid with which the lock was acquired: 1 to 128 bytes of UTF-8. */
            uuid: string;
        };
        /** @description What the caller's licence has used. */
        UsageAnswer: {
            /**
             * Format: int64
             * @description How many there may be; null where there is no bound.
             */
            allowance: number | null;
            /**
             * Format: int64
             * @description Lock acquisition attempts; null where nothing is counted.
             */
            attempts: number | null;
            identity: string;
            /** @description `total`, or a month; null where nothing is counted. */
            period: string | null;
            /** Format: int64 */
            remaining: number | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    createApiKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "licenceKey": "your-licence-key"
                 *     }
                 */
                "application/json": components["schemas"]["CreateKeyRequest"];
            };
        };
        responses: {
            /** @description The API key. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "apiKey": "everlock_…"
                     *     }
                     */
                    "application/json": components["schemas"]["ApiKeyAnswer"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such licence, or it was revoked or has expired. */
            403: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing at this path. */
            404: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The body did not arrive in time. */
            408: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The body is too large. */
            413: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The body is said to be something else than JSON. */
            415: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description A fault of the proxy's. */
            500: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description Whether the licence is good can't be told now. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
        };
    };
    deleteApiKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "apiKey": "everlock_…",
                 *       "licenceKey": "your-licence-key"
                 *     }
                 */
                "application/json": components["schemas"]["DeleteKeyRequest"];
            };
        };
        responses: {
            /** @description The API key is deleted. */
            204: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such licence, or it was revoked or has expired. */
            403: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such API key of this licence. There is nothing at this path. */
            404: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The body did not arrive in time. */
            408: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The body is too large. */
            413: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The body is said to be something else than JSON. */
            415: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is too much under way, of all or of one identity. */
            429: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description A fault of the proxy's. */
            500: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description Whether the licence is good can't be told now. Whether API keys are valid can't be told now. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
        };
    };
    docs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
        };
    };
    healthz: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It runs. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ok"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
        };
    };
    acquire: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "key": "orders:42",
                 *       "lease": 30000,
                 *       "uuid": "0192f0c1-7a52-7cc4-9d0e-3f5a2b1c4d5e"
                 *     }
                 */
                "application/json": components["schemas"]["AcquireRequest"];
            };
        };
        responses: {
            /** @description The lock is acquired; with `softFail`, also whatever is 409 or 503 without it and is not about the API key. */
            200: {
                headers: {
                    /** @description `everlock;dur=` and the milliseconds from the request's arrival to the moment from which `validity` counts. Only where the lock is held. */
                    "Server-Timing"?: string;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "acquired": true,
                     *       "config": {
                     *         "fifo": false,
                     *         "key": "orders:42",
                     *         "lease": 30000,
                     *         "retryAttempts": 10,
                     *         "retryDelay": 500,
                     *         "retryJitter": 0,
                     *         "uuid": "0192f0c1-7a52-7cc4-9d0e-3f5a2b1c4d5e"
                     *       },
                     *       "fencingToken": 1795304121971545,
                     *       "lockAcquisitionAttempts": 1,
                     *       "message": null,
                     *       "validity": 29694
                     *     }
                     */
                    "application/json": components["schemas"]["Acquired"] | components["schemas"]["NotAcquired"] | components["schemas"]["AcquireProblem"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description There is no API key, or one that is malformed, unknown or deleted. */
            401: {
                headers: {
                    /** @description The scheme by which API keys are shown: Bearer. */
                    "WWW-Authenticate"?: string;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description There is no such licence, or it was revoked or has expired. */
            403: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description The body did not arrive in time. */
            408: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description The lock was held by others until the retries ran out, or its line of waiters is full. */
            409: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "acquired": false,
                     *       "config": {
                     *         "fifo": false,
                     *         "key": "orders:42",
                     *         "lease": 30000,
                     *         "retryAttempts": 10,
                     *         "retryDelay": 500,
                     *         "retryJitter": 0,
                     *         "uuid": "0192f0c1-7a52-7cc4-9d0e-3f5a2b1c4d5e"
                     *       },
                     *       "lockAcquisitionAttempts": 11,
                     *       "message": "the lock is held",
                     *       "retryAfter": 11342
                     *     }
                     */
                    "application/json": components["schemas"]["NotAcquired"];
                };
            };
            /** @description The body is too large. */
            413: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description The body is said to be something else than JSON. */
            415: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description There is too much under way, of all or of one identity. The licence's allowance of lock acquisition attempts is used up. */
            429: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description A fault of the proxy's. */
            500: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AcquireProblem"];
                };
            };
            /** @description No quorum of nodes answers: nothing is held, as far as a quorum could be told. Whether API keys are valid can't be told now. Whether the licence is good can't be told now. The proxy is about to end. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotAcquired"] | components["schemas"]["AcquireProblem"];
                };
            };
        };
    };
    extend: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "extendBy": 30000,
                 *       "key": "orders:42",
                 *       "uuid": "0192f0c1-7a52-7cc4-9d0e-3f5a2b1c4d5e"
                 *     }
                 */
                "application/json": components["schemas"]["ExtendRequest"];
            };
        };
        responses: {
            /** @description The lock is held for longer; with `softFail`, also whatever is 404, 409 or 503 without it and is not about the API key. */
            200: {
                headers: {
                    /** @description `everlock;dur=` and the milliseconds from the request's arrival to the moment from which `validity` counts. Only where the lock is held. */
                    "Server-Timing"?: string;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "extended": true,
                     *       "message": null,
                     *       "validity": 55107
                     *     }
                     */
                    "application/json": components["schemas"]["Extended"] | components["schemas"]["NotExtended"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description There is no API key, or one that is malformed, unknown or deleted. */
            401: {
                headers: {
                    /** @description The scheme by which API keys are shown: Bearer. */
                    "WWW-Authenticate"?: string;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description There is no such licence, or it was revoked or has expired. */
            403: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description The lock does not exist: it never did, has expired, or was released. */
            404: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotExtended"];
                };
            };
            /** @description The body did not arrive in time. */
            408: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description The lock is held under another uuid. */
            409: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotExtended"];
                };
            };
            /** @description The body is too large. */
            413: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description The body is said to be something else than JSON. */
            415: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description There is too much under way, of all or of one identity. */
            429: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description A fault of the proxy's. */
            500: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExtendProblem"];
                };
            };
            /** @description No quorum of nodes answers: whether the lock is held for longer is unknown. Whether API keys are valid can't be told now. Whether the licence is good can't be told now. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotExtended"] | components["schemas"]["ExtendProblem"];
                };
            };
        };
    };
    release: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "key": "orders:42",
                 *       "uuid": "0192f0c1-7a52-7cc4-9d0e-3f5a2b1c4d5e"
                 *     }
                 */
                "application/json": components["schemas"]["ReleaseRequest"];
            };
        };
        responses: {
            /** @description The lock is released; with `softFail`, also whatever is 404, 409 or 503 without it and is not about the API key. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": null,
                     *       "released": true
                     *     }
                     */
                    "application/json": components["schemas"]["Released"] | components["schemas"]["NotReleased"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description There is no API key, or one that is malformed, unknown or deleted. */
            401: {
                headers: {
                    /** @description The scheme by which API keys are shown: Bearer. */
                    "WWW-Authenticate"?: string;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description There is no such licence, or it was revoked or has expired. */
            403: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description The lock does not exist: it never did, has expired, or was released. */
            404: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotReleased"];
                };
            };
            /** @description The body did not arrive in time. */
            408: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description The lock is held under another uuid. */
            409: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotReleased"];
                };
            };
            /** @description The body is too large. */
            413: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description The body is said to be something else than JSON. */
            415: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description There is too much under way, of all or of one identity. */
            429: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description A fault of the proxy's. */
            500: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleaseProblem"];
                };
            };
            /** @description No quorum of nodes answers: whether the lock is released is unknown; it ends with its lease. Whether API keys are valid can't be told now. Whether the licence is good can't be told now. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NotReleased"] | components["schemas"]["ReleaseProblem"];
                };
            };
        };
    };
    openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The document. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": Record<string, never>;
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
        };
    };
    readyz: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A quorum of nodes votes, and the proxy is not about to end. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "nodes": [
                     *         {
                     *           "node": "10.0.0.1:6379",
                     *           "state": "up"
                     *         },
                     *         {
                     *           "node": "10.0.0.2:6379",
                     *           "state": "up"
                     *         },
                     *         {
                     *           "node": "10.0.0.3:6379",
                     *           "state": "guarded",
                     *           "votesIn": 271345,
                     *           "why": "the server was restarted"
                     *         }
                     *       ],
                     *       "quorum": 2,
                     *       "ready": true,
                     *       "status": "ready"
                     *     }
                     */
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description Not so; the body says why. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
        };
    };
    usage: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What was used. */
            200: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "allowance": 1000,
                     *       "attempts": 5,
                     *       "identity": "acme",
                     *       "period": "2026-11",
                     *       "remaining": 995
                     *     }
                     */
                    "application/json": components["schemas"]["UsageAnswer"];
                };
            };
            /** @description The request can't be understood, or a value is out of bounds: the message names the field and its bound. */
            400: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no API key, or one that is malformed, unknown or deleted. */
            401: {
                headers: {
                    /** @description The scheme by which API keys are shown: Bearer. */
                    "WWW-Authenticate"?: string;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is no such licence, or it was revoked or has expired. */
            403: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description There is too much under way, of all or of one identity. */
            429: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description The header is too large. */
            431: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description A fault of the proxy's. */
            500: {
                headers: {
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
            /** @description Whether the licence is good can't be told now. Whether API keys are valid can't be told now. */
            503: {
                headers: {
                    /** @description Whole seconds after which asking again is worth it. */
                    "Retry-After"?: number;
                    /** @description The request's id, as it stands in the proxy's log. */
                    "x-request-id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
